"""The vfs driver: whole copies that lack nothing."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, IdMap, IdMapping, NoConfig
from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer
from pannier.errors import Conflict, ImageInvalid, NotFound, UnsupportedOperation
from pannier_storage_vfs.driver import VfsStorage
from support.layers import Layers, entry, names, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


@pytest.fixture
def root(vfs: Layers) -> Iterator[int]:
    """Give the root of a container "box" of a small image."""
    vfs.layer(
        "base",
        None,
        entry("etc/", mode=0o750, uid=3, gid=4),
        entry("etc/passwd", b"root"),
        entry("etc/shadow", b"secret", mode=0o600),
        entry("dev/"),
        entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    )
    vfs.layer("top", "sha256:base", entry("etc/.wh.shadow"), entry("tool", b"x", mode=0o4755))
    vfs.container("box", "sha256:top")
    descriptor = vfs.root("box")
    yield descriptor
    os.close(descriptor)


def test_a_root_is_a_copy_with_everything_kept(root: int) -> None:
    """Layers are applied; owners, modes, times and devices are the archive's."""
    assert names(root, "etc") == ["passwd"]
    etc = os.stat("etc", dir_fd=root)
    assert (stat.S_IMODE(etc.st_mode), etc.st_uid, etc.st_gid) == (0o750, 3, 4)
    assert etc.st_mtime == 1_600_000_000
    assert stat.S_IMODE(os.stat("tool", dir_fd=root).st_mode) == 0o4755
    assert os.stat("dev/null", dir_fd=root).st_rdev == os.makedev(1, 3)


def test_containers_and_layers_are_apart(vfs: Layers, root: int) -> None:
    """Writing in a container changes neither its image nor another container."""
    write(root, "etc/passwd", b"changed")
    vfs.container("other", "sha256:top")
    other = vfs.root("other")
    layer = vfs.driver.open_layer("sha256:top")
    try:
        assert read(other, "etc/passwd") == read(layer, "etc/passwd") == b"root"
        with pytest.raises(OSError, match="Read-only"):
            write(layer, "file", b"")
    finally:
        os.close(other)
        os.close(layer)


def test_a_fresh_container_has_no_changes(vfs: Layers, root: int) -> None:
    """A copy differs from its original in nothing."""
    assert names(root)
    assert vfs.changes("box") == []
    assert vfs.driver.usage("box").inodes == 0


def test_changes(vfs: Layers, root: int) -> None:
    """Content, modes, owners, attributes and deletions are found."""
    write(root, "etc/passwd", b"more")
    os.chmod("tool", 0o700, dir_fd=root)
    os.unlink("dev/null", dir_fd=root)
    write(root, "new", b"1234")
    assert vfs.changes("box") == [
        "C /dev",
        "D /dev/null",
        "C /etc",
        "C /etc/passwd",
        "A /new",
        "C /tool",
    ]
    assert vfs.driver.usage("box").size == len("more" + "x" + "1234")


def test_a_change_that_hides_behind_size_and_time_is_found(vfs: Layers, root: int) -> None:
    """A file whose size and time were set back is compared by its content."""
    before = os.stat("etc/passwd", dir_fd=root)
    write(root, "etc/passwd", b"r00t")
    os.utime("etc/passwd", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=root)
    assert vfs.changes("box") == ["C /etc", "C /etc/passwd"]


def test_a_copy_keeps_links_holes_and_attributes(vfs: Layers, root: int) -> None:
    """Committed and copied again: hard links, a sparse file, xattrs, a fifo; no socket."""
    write(root, "one", b"linked")
    os.link("one", "two", src_dir_fd=root, dst_dir_fd=root)
    size = 64 << 20
    with os.fdopen(os.open("sparse", os.O_CREAT | os.O_WRONLY, dir_fd=root), "wb") as file:
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    os.setxattr(f"/proc/self/fd/{root}/one", "user.note", b"\x00\xff")
    os.mkfifo("fifo", dir_fd=root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{root}/socket")
    vfs.driver.create_layer("sha256:commit", "sha256:top", io.BytesIO(vfs.diff("box")))
    vfs.container("copy", "sha256:commit")
    copy = vfs.root("copy")
    try:
        one, two = (os.stat(name, dir_fd=copy) for name in ("one", "two"))
        assert one.st_ino == two.st_ino
        assert os.getxattr(f"/proc/self/fd/{copy}/one", "user.note") == b"\x00\xff"
        sparse = os.stat("sparse", dir_fd=copy)
        assert sparse.st_size == size
        assert sparse.st_blocks * 512 < 1 << 20
        assert read(copy, "sparse")[size // 2 :][:6] == b"middle"
        assert stat.S_ISFIFO(os.stat("fifo", dir_fd=copy).st_mode)
        assert "socket" not in names(copy)
    finally:
        os.close(copy)
    assert vfs.changes("copy") == []


def test_what_the_driver_does_not_offer_is_refused(vfs: Layers, root: int) -> None:
    """Folders of the host, id maps and size limits need another driver."""
    assert names(root)
    driver = vfs.driver
    for layer in (ContainerLayer("x", rootfs=Path("/")), ContainerLayer("x", size_limit=1)):
        with pytest.raises(UnsupportedOperation) as caught:
            driver.plan_create_container(layer)
        assert caught.value.hint
    ranges = (IdMapping(0, 100000, 65536),)
    with pytest.raises(UnsupportedOperation):
        driver.plan_open_root("box", idmap=IdMap(ranges, ranges))


def test_state_is_found_again(vfs: Layers, root: int, tmp_path: Path) -> None:
    """After a re-open everything is there but what a killed process left half-done."""
    write(root, "file", b"")
    (tmp_path / "vfs" / "root" / "staging" / "1-2-x" / "tree").mkdir(parents=True)
    vfs.reopen()
    assert sorted(vfs.driver.layers()) == ["sha256:base", "sha256:top"]
    assert vfs.changes("box") == ["A /file"]
    assert not list((tmp_path / "vfs" / "root" / "staging").iterdir())


def test_removing(vfs: Layers, root: int) -> None:
    """What something stands on stays; the rest goes, any number of times."""
    assert names(root)
    with pytest.raises(Conflict):
        vfs.driver.remove_layer("sha256:top")
    for _ in range(2):
        vfs.driver.remove_container("box")
        for chain in ("sha256:top", "sha256:base"):
            vfs.driver.remove_layer(chain)
    assert not list(vfs.driver.layers())
    with pytest.raises(NotFound):
        vfs.driver.changes("box")


def test_a_broken_layer_leaves_nothing(vfs: Layers) -> None:
    """A layer appears whole or not at all."""
    with pytest.raises(ImageInvalid):
        vfs.driver.create_layer("sha256:bad", None, io.BytesIO(b"\1" * 4096))
    assert not vfs.driver.has_layer("sha256:bad")


def test_plans_are_described_and_undone(vfs: Layers, root: int) -> None:
    """The steps name the tree; a rollback removes what was made."""
    assert names(root)
    plan = vfs.driver.plan_create_container(ContainerLayer("new", "sha256:top"))
    assert "containers/new/tree" in str(plan.describe()[0])
    transaction = Transaction()
    transaction.run(plan)
    transaction.rollback()
    assert list(vfs.driver.containers()) == ["box"]


def test_probing_leaves_nothing(tmp_path: Path) -> None:
    """It works on any folder."""
    VfsStorage.probe(DriverContext(tmp_path, tmp_path), NoConfig())
    assert not list(tmp_path.iterdir())
