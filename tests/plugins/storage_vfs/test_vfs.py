"""The vfs driver: whole copies that lack nothing."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer
from pannier_storage_vfs.driver import VfsStorage
from support.layers import Layers, entry, names, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def test_state_is_found_again(vfs: Layers, root: int, tmp_path: Path) -> None:
    """After a re-open everything is there but what a killed process left half-done."""
    write(root, "file", b"")
    (tmp_path / "vfs" / "root" / "staging" / "1-2-x" / "tree").mkdir(parents=True)
    vfs.reopen()
    assert sorted(vfs.driver.layers()) == ["sha256:base", "sha256:top"]
    assert vfs.changes("box") == ["A /file"]
    assert not list((tmp_path / "vfs" / "root" / "staging").iterdir())


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
