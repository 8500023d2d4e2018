"""A place apart for tests with real drivers: a network namespace, folders and control groups.

The code under test runs on a thread that has left the host's network namespace. Threads and
processes that it starts inherit the new one, so bridges, rules and ports are made there; all of
them are gone with the last of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pannier.config import parse
from pannier.database import Database
from pannier.driverset import open_drivers
from pannier.engine.engine import Engine
from pannier.engine.settings import EngineSettings
from pannier.images.images import ImageStore
from pannier.linux.namespaces import CLONE_NEWNET, unshare
from pannier.plugins import Drivers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from pannier.drivers.base import IdMap
    from pannier.driverset import DriverSet

__all__ = ["Place", "apart", "fresh_place", "in_new_network"]

T = TypeVar("T")


def apart(function: Callable[[], T]) -> T:
    """Call a function on a thread in a network namespace of its own, with its loopback up."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            unshare(CLONE_NEWNET)
            _raise_loopback()
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run, name="apart")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def in_new_network(test: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine function as :func:`apart`, on an event loop of its own."""
    return apart(lambda: asyncio.run(test()))


def _raise_loopback() -> None:
    from pyroute2 import IPRoute  # noqa: PLC0415 - only root's tests pay the import

    with IPRoute() as route:
        route.link("set", index=1, state="up")


@dataclass
class Place:
    """Folders and a configuration for engines, one after another.

    :param parent: the control group that all of a place's containers are in.
    """

    folder: Path
    parent: str
    tables: str = ""
    idmap: IdMap | None = None

    @contextlib.contextmanager
    def drivers(self) -> Iterator[DriverSet]:
        """Open drivers on this place's folders."""
        config = parse(
            f'[engine]\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'[resources.v1]\nparent = "{self.parent}"\n{self.tables}'
        )
        drivers = open_drivers(Drivers(config))
        try:
            yield drivers
        finally:
            drivers.close()

    @contextlib.asynccontextmanager
    async def engine(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - an async generator
        """Give a started engine; it is closed at the end, and its containers live on."""
        with self.drivers() as drivers:
            engine, database = self.make_engine(drivers)
            try:
                await engine.start()
                yield engine
            finally:
                await engine.close()
                database.close()

    def make_engine(self, drivers: DriverSet) -> tuple[Engine, Database]:
        """Return an engine that was not started, and its database."""
        root = self.folder / "root"
        database = Database(root / "pannier.db")
        images = ImageStore(root / "images", database, drivers.storage)
        settings = EngineSettings(
            root=root, state=self.folder / "state", userns_remap=self.idmap, hostname="testhost"
        )
        return Engine(settings, database, drivers, images), database


@contextlib.contextmanager
def fresh_place(tables: str = "") -> Iterator[Place]:
    """Give an empty place; its folders are removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pannier-test-"))
    (folder / "root").mkdir(mode=0o711)
    (folder / "state").mkdir(mode=0o711)
    place = Place(folder, f"pannier-test-{secrets.token_hex(3)}", tables)
    try:
        yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_groups(place.parent)


def _remove_groups(parent: str) -> None:
    """Remove the control groups that the drivers leave for the containers to come."""
    for top in Path("/sys/fs/cgroup").glob(f"*/{parent}"):
        for folder in sorted(top.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()
