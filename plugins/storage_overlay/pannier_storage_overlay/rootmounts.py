"""Mounting a container's root, as an operation that says what it would do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pannier.drivers.operations import Operation, Step
from pannier_storage_overlay.union import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.drivers.base import IdMap, IdMapping

__all__ = ["MountRoot"]


class MountRoot(Operation):
    """Mounting the union, with a line for each of its layers.

    :param key: of the container.
    :param lowers: the folders below its own, top first.
    :param mount: mounts it, and returns a descriptor.
    """

    def __init__(
        self,
        key: str,
        lowers: tuple[str, ...],
        idmap: IdMap | None,
        mount: Callable[[str, tuple[str, ...], IdMap | None], int],
    ) -> None:
        self._key = key
        self._lowers = lowers
        self._idmap = idmap
        self._mount = mount
        self._descriptor: int | None = None

    def describe(self) -> Sequence[Step]:
        """Tell the mount, and each lower layer."""
        options = ",".join(f"{key}={value}" for key, value in OPTIONS.items())
        steps = [Step("mount overlay", f"root of {self._key}", f"detached, {options}")]
        count = len(self._lowers)
        for number, lower in enumerate(self._lowers):
            detail = f"{count - number} of {count}, read-only"
            if self._idmap is not None:
                detail += f", ids mapped {_words(self._idmap.uids)}"
            steps.append(Step("lower layer", lower, detail))
        return steps

    def execute(self) -> None:
        """Mount it."""
        self._descriptor = self._mount(self._key, self._lowers, self._idmap)

    def undo(self) -> None:
        """Close the descriptor, and the mount with it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def take(self) -> int:
        """Hand the descriptor over: it is the caller's from now on, and not undone."""
        descriptor, self._descriptor = self._descriptor, None
        assert descriptor is not None
        return descriptor


def _words(ranges: tuple[IdMapping, ...]) -> str:
    return " ".join(f"{item.container}:{item.host}:{item.size}" for item in ranges)
