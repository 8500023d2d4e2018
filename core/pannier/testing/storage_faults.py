"""What a storage driver makes of faults: broken archives, full disks, kills, and many threads."""

from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from pannier.drivers.base import DriverContext
from pannier.errors import ImageInvalid, PannierError
from pannier.testing.archives import Member, archive, archive_stream, entry
from pannier.testing.base import Opened, mandatory
from pannier.testing.faults import (
    fill,
    free_bytes,
    small_filesystem,
)
from pannier.testing.leaks import wait_until
from pannier.testing.storage_base import Storage, StorageTests, chain_of, image, remove_everything
from pannier.testing.trees import names, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pannier.drivers.storage import StorageDriver

__all__ = ["FaultTests"]

_THREADS: Final = 8
_KILLS: Final = 12
"""At how many of an operation's lines a process is killed."""


def _truncated() -> bytes:
    whole = archive(entry("a", bytes(4096)), entry("b", bytes(4096))).getvalue()
    return whole[:3000]


def _broken_later() -> bytes:
    """Return a good beginning after which the headers are garbage."""
    start = archive(entry("f/"), entry("f/a", b"x" * 512)).getvalue()[: 3 * 512]
    return start + b"\1" * 4096


_BROKEN: Final[dict[str, Callable[[], bytes]]] = {
    "no archive": lambda: b"no archive at all" * 100,
    "truncated": _truncated,
    "broken later": _broken_later,
    "no name for a whiteout": lambda: archive(entry("f/.wh.")).getvalue(),
    "a hard link to nothing": lambda: archive(
        entry("a", type=tarfile.LNKTYPE, linkname="nothing")
    ).getvalue(),
}

_HOSTILE: Final[dict[str, Callable[[str], list[Member]]]] = {
    "dots": lambda target: [entry(f"{'../' * 30}{target}", b"x")],
    "dots within": lambda target: [entry("a/"), entry(f"a/{'../' * 30}{target}", b"x")],
    "an absolute name": lambda target: [entry(f"/{target}", b"x")],
    "through a link": lambda target: [
        entry("out", type=tarfile.SYMTYPE, linkname=f"/{os.path.dirname(target)}"),  # noqa: PTH120 - a name in an archive
        entry(f"out/{os.path.basename(target)}", b"x"),  # noqa: PTH119 - as above
    ],
    "a hard link out": lambda target: [
        entry("a", type=tarfile.LNKTYPE, linkname=f"{'../' * 30}{target}"),
        entry("a", b"x"),
    ],
    "a whiteout outside": lambda target: [
        entry(f"{'../' * 30}{os.path.dirname(target)}/.wh.{os.path.basename(target)}")  # noqa: PTH119, PTH120 - as above
    ],
}


class FaultTests(StorageTests):
    """Faults, each of which leaves a driver that works."""

    @pytest.fixture
    def small_place(self, tmp_path: Path) -> Iterator[Path]:
        """Give a folder on a small filesystem of its own, to be filled; a tmpfs of 16 MiB.

        Override it for a driver that needs a certain filesystem.
        """
        with small_filesystem(tmp_path / "small") as folder:
            yield folder

    # Archives.

    @pytest.mark.parametrize("name", sorted(_BROKEN))
    @mandatory
    def test_a_broken_archive_leaves_nothing(self, storage: Storage, name: str) -> None:
        """It is refused as an invalid image; no layer appears, and the id can be used."""
        chain = chain_of("a")
        with pytest.raises(ImageInvalid):
            storage.driver.create_layer(chain, None, io.BytesIO(_BROKEN[name]()))
        assert not storage.driver.has_layer(chain)
        assert list(storage.driver.layers()) == []
        storage.reopen()
        assert list(storage.driver.layers()) == []
        storage.layer("a", None, entry("whole"))
        with storage.opened_layer(chain) as root:
            assert names(root) == ["whole"]

    @pytest.mark.parametrize("name", sorted(_HOSTILE))
    @mandatory
    def test_a_hostile_archive_reaches_nothing_outside(
        self, storage: Storage, place: Path, name: str
    ) -> None:
        """Whatever its names say: it is refused, or kept inside the layer."""
        victim = place / "victim"
        victim.write_bytes(b"untouched")
        members = _HOSTILE[name](str(victim).lstrip("/"))
        chain = chain_of("hostile")
        try:
            storage.driver.create_layer(chain, None, archive(*members))
        except ImageInvalid:
            assert list(storage.driver.layers()) == []
        assert victim.read_bytes() == b"untouched"
        assert victim.stat().st_nlink == 1
        assert [path.name for path in place.iterdir()].count("victim") == 1

    @mandatory
    def test_a_stream_that_fails_leaves_nothing(self, storage: Storage) -> None:
        """A download that breaks off: its error comes through, and no layer appears."""
        data = archive(entry("a", bytes(100_000)), entry("b", bytes(100_000))).getvalue()
        with pytest.raises((OSError, PannierError)):
            storage.driver.create_layer(
                chain_of("a"), None, archive_stream(data, 120_000, _raise_broken_pipe)
            )
        assert list(storage.driver.layers()) == []

    # A full disk.

    @mandatory
    def test_a_full_disk_leaves_no_half_layer(
        self,
        small_place: Path,
        open_driver: Callable[[DriverContext], StorageDriver],
    ) -> None:
        """A named error, no layer, the space is given back, and there is room for a smaller one."""
        with _Elsewhere(small_place, open_driver) as storage:
            base = storage.layer("base", None, entry("base", b"base"))
            room = free_bytes(small_place)
            large = archive_stream(_large_file(room * 2))
            with pytest.raises(PannierError):
                storage.driver.create_layer(chain_of("large"), base, large)
            assert list(storage.driver.layers()) == [base]
            assert wait_until(lambda: free_bytes(small_place) > room * 3 // 4), "the space is gone"
            small = storage.layer("large", base, entry("small", bytes(4096)))
            storage.reopen()
            with storage.opened_layer(small) as root:
                assert names(root) == ["base", "small"]

    @mandatory
    def test_a_full_disk_leaves_no_half_container(
        self,
        small_place: Path,
        open_driver: Callable[[DriverContext], StorageDriver],
    ) -> None:
        """A named error or a whole container; afterwards all that was there still is."""
        with _Elsewhere(small_place, open_driver) as storage:
            top = image(storage)
            storage.make("before", top)
            with fill(small_place):
                try:
                    storage.make("box", top)
                except PannierError:
                    assert list(storage.driver.containers()) == ["before"]
                for chain in (top, chain_of("base")):
                    assert storage.driver.has_layer(chain)
            storage.reopen()
            storage.make("box", top)
            for key in ("before", "box"):
                with storage.root(key) as root:
                    assert read(root, "etc/passwd") == b"root"

    # Busy mounts.

    @mandatory
    def test_a_busy_root_does_not_keep_a_container(self, storage: Storage) -> None:
        """Removed while a root and a file in it are open, or refused; after that it goes."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            write(root, "file", b"x")
            inner = os.open("file", os.O_RDONLY, dir_fd=root)
            try:
                storage.driver.remove_container("box")
            except PannierError:
                assert list(storage.driver.containers()) == ["box"]
            finally:
                os.close(inner)
        for _ in range(2):
            storage.driver.remove_container("box")
        assert list(storage.driver.containers()) == []
        storage.driver.remove_layer(chain_of("top"))

    @mandatory
    def test_a_busy_layer_does_not_stay(self, storage: Storage) -> None:
        """Removed while it is open, or refused; after that it goes."""
        top = image(storage)
        with storage.opened_layer(top):
            try:
                storage.driver.remove_layer(top)
            except PannierError:
                assert storage.driver.has_layer(top)
        for _ in range(2):
            storage.driver.remove_layer(top)
        assert not storage.driver.has_layer(top)

    # Threads.

    @mandatory
    def test_threads_create_one_layer_once(self, storage: Storage) -> None:
        """Several at once with one chain id: one layer, and no error."""
        data = archive(*(entry(f"file{number}", b"x" * 1000) for number in range(50))).getvalue()

        def create(_: int) -> object:
            return storage.driver.create_layer(chain_of("a"), None, io.BytesIO(data))

        assert len(set(_in_threads(create))) == 1
        assert list(storage.driver.layers()) == [chain_of("a")]
        with storage.opened_layer(chain_of("a")) as root:
            assert len(names(root)) == 50

    @mandatory
    def test_threads_do_not_disturb_one_another(self, storage: Storage) -> None:
        """Layers and containers of their own, made, written to, listed and removed at once."""
        top = image(storage)

        def live(number: int) -> object:
            key, name = f"box{number}", f"layer{number}"
            for _ in range(3):
                chain = storage.layer(name, top, entry(name, b"x"))
                storage.make(key, chain)
                with storage.root(key) as root:
                    write(root, "mine", name.encode())
                    assert name in names(root)
                changed = storage.changes(key)
                storage.driver.remove_container(key)
                storage.driver.remove_layer(chain)
            return changed

        assert _in_threads(live) == [["A /mine"]] * _THREADS
        assert sorted(storage.driver.layers()) == sorted([top, chain_of("base")])


class _Elsewhere:
    """A driver on folders of another filesystem, which it leaves empty."""

    def __init__(self, folder: Path, open_driver: Callable[[DriverContext], StorageDriver]) -> None:
        self._context = DriverContext(folder / "driver-root", folder / "driver-state")
        for path in (self._context.root, self._context.state):
            path.mkdir(mode=0o700)
        self._opened = Opened(open_driver, self._context)

    def __enter__(self) -> Storage:
        return Storage(self._opened)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                remove_everything(self._opened.driver)
        finally:
            self._opened.driver.close()


def _raise_broken_pipe() -> None:
    raise BrokenPipeError(32, "the download broke off")


def _large_file(size: int) -> Iterator[bytes]:
    """Yield an archive of one large file that no filesystem can shrink."""
    header = entry("large")
    header.size = size
    yield header.tobuf(tarfile.PAX_FORMAT)
    piece = os.urandom(1 << 20)
    for _ in range(size >> 20):
        yield piece
    yield bytes(1 << 20)


def _in_threads(work: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, range(_THREADS)))
