"""The lowest layers of containers: places to mount on, and nothing else.

One folder for each set of places, named by its content and shared by all containers that ask for
it; it is kept for the next one to come, until the driver is opened anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.drivers.layer_errors import making
from pannier.drivers.operations import Action, Step
from pannier.drivers.storage import Skeleton

if TYPE_CHECKING:
    from pannier.drivers.layer_store import ContainerRecord, LayerStore

__all__ = ["Skeletons"]

_FOLDER: Final = "skeletons"


class Skeletons:
    """The skeletons of a store's containers.

    :param store: its folder must be there; those that no container has go now.
    """

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self._root = store.root / _FOLDER
        self._root.mkdir(exist_ok=True)
        self._root.chmod(0o700)
        self._drop_unused()

    def _drop_unused(self) -> None:
        store = self._store
        used = {name for key in store.containers() for name in store.container(key).skeleton}
        for folder in self._root.iterdir():
            if folder.name not in used:
                with store.stage() as staged:
                    folder.rename(staged / _FOLDER)

    def paths(self, record: ContainerRecord) -> tuple[str, ...]:
        """Return the folders that a container has of these; none, or one."""
        return tuple(str(self._root / name) for name in record.skeleton)

    def name(self, skeleton: Skeleton) -> tuple[str, ...]:
        """Return what a container's record says of its skeleton; nothing of an empty one."""
        if skeleton == Skeleton():
            return ()
        content = repr((sorted(skeleton.directories), sorted(skeleton.files)))
        return (hashlib.sha256(content.encode()).hexdigest()[:16],)

    def plan(self, skeleton: Skeleton) -> list[Action]:
        """Return what makes the folder of a skeleton; nothing where there is one."""
        names = self.name(skeleton)
        if not names or (folder := self._root / names[0]).exists():
            return []
        step = Step("make places to mount on", str(folder))
        return [Action(step, lambda: self._make(skeleton, folder))]

    def _make(self, skeleton: Skeleton, folder: Path) -> None:
        with making("places to mount on"), self._store.stage() as staged:
            top = staged / "skeleton"
            top.mkdir(mode=0o755)
            for path in skeleton.directories:
                _make_folders(top, path)
            for path in skeleton.files:
                place = _make_folders(top, str(Path(path).parent)) / Path(path).name
                place.touch()
                place.chmod(0o644)
            # Another thread may have been first: one is like the other.
            with contextlib.suppress(OSError):
                top.rename(folder)


def _make_folders(top: Path, path: str) -> Path:
    folder = top
    for part in Path(path).relative_to("/").parts:
        folder /= part
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    return folder
