"""The shared memory of containers whose IPC namespace others may join (``--ipc shareable``).

A tmpfs can be bound into a second container only from a mount that the engine can reach, so it is
mounted on the host, in the state folder, for as long as the container runs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pannier.drivers.operations import Action, Plan, Step
from pannier.linux import mounts

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.engine.joins import Joins
    from pannier.engine.model import Container

__all__ = ["SharedMemory"]


class SharedMemory:
    """Mounts and unmounts them.

    :param folder: ``state/shm``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, container: Container, joins: Joins) -> str | None:
        """Return the folder to be used as /dev/shm; None where the container gets one made."""
        if joins.ipc:
            donor = container.host.ipc_mode.partition(":")[2]
            return str(self._folder / donor)
        if container.host.ipc_mode == "shareable":
            return str(self._folder / container.id)
        return None

    def plan(self, container: Container) -> Plan[None]:
        """Mount a container's."""
        size = container.host.shm_size
        path = self._folder / container.id
        action = Action(
            Step("mount", str(path), f"tmpfs size={size}"),
            lambda: self._mount(path, size),
            lambda: self.remove(container.id),
        )
        return Plan("engine", [action], lambda: None)

    def _mount(self, path: Path, size: int) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        mounts.mount("shm", path, "tmpfs", flags, f"mode=1777,size={size}")

    def remove(self, id: str) -> None:
        """Unmount a container's. Idempotent."""
        path = self._folder / id
        if not path.is_dir():
            return
        with contextlib.suppress(OSError):  # not mounted
            mounts.umount(path, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)
        with contextlib.suppress(OSError):
            path.rmdir()

    def tidy(self, running: set[str]) -> None:
        """Unmount what containers left that do not run."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in running:
                    self.remove(path.name)
