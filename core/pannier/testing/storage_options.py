"""What a container layer may be asked for besides: places to mount on, and what is declared."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.storage import ContainerLayer, Skeleton, StorageCapability
from pannier.errors import NotFound, UnsupportedOperation
from pannier.linux.mounts import mount, umount
from pannier.testing.archives import entry
from pannier.testing.base import mandatory, refuses, requires
from pannier.testing.storage_base import IDMAP, Storage, StorageTests, image
from pannier.testing.storage_layers import CAPABILITY
from pannier.testing.trees import describe_tree, names, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["OptionTests"]

_SKELETON = Skeleton(("/dev", "/etc"), ("/etc/hosts", "/etc/hostname", "/run/a/b", "/.marker"))
_LIMIT = 8 << 20


class OptionTests(StorageTests):
    """Skeletons, host folders as roots, id maps and size limits."""

    # Places to mount on.

    @mandatory
    def test_a_skeleton_is_there_and_no_change(self, storage: Storage) -> None:
        """What the image lacks is made, with parents; neither changes nor a diff show it."""
        chain = storage.layer("a", None, entry("etc/"), entry("etc/hosts", b"mine"), entry("bin/"))
        storage.make("box", chain, skeleton=_SKELETON)
        with storage.root("box") as root:
            assert names(root) == [".marker", "bin", "dev", "etc", "run"]
            assert names(root, "etc") == ["hostname", "hosts"]
            assert names(root, "run/a") == ["b"]
            assert read(root, "etc/hosts") == b"mine", "the image's own file was replaced"
            assert read(root, "etc/hostname") == b""
            modes = [
                stat.S_IMODE(os.stat(name, dir_fd=root).st_mode)
                for name in ("dev", "run/a", "etc/hostname")
            ]
        assert modes == [0o755, 0o755, 0o644]
        assert storage.changes("box") == []
        with tarfile.open(fileobj=io.BytesIO(storage.diff("box"))) as tar:
            assert tar.getnames() == []

    @mandatory
    def test_changes_beside_a_skeleton_are_seen(self, storage: Storage) -> None:
        """A new file in such a folder, and content in an empty place, are changes."""
        chain = storage.layer("a", None, entry("bin/"))
        storage.make("box", chain, skeleton=_SKELETON)
        with storage.root("box") as root:
            write(root, "etc/added", b"x")
            write(root, "etc/hostname", b"written")
        changed = [change.path for change in storage.driver.changes("box")]
        assert "/etc/added" in changed
        assert "/etc/hostname" in changed
        assert not {"/etc/hosts", "/dev", "/.marker"} & set(changed)

    @mandatory
    def test_a_link_in_the_skeletons_way_is_left_alone(self, storage: Storage) -> None:
        """An image whose /etc is a link that leads nowhere can still be used."""
        chain = storage.layer("a", None, entry("etc", type=b"2", linkname="/nowhere/at/all"))
        storage.make("box", chain, skeleton=_SKELETON)
        with storage.root("box") as root:
            assert os.readlink("etc", dir_fd=root) == "/nowhere/at/all"
        assert storage.changes("box") == []

    @mandatory
    def test_a_skeleton_is_found_again(self, storage: Storage) -> None:
        """A restart of the daemon changes nothing about it; an empty container can have one."""
        storage.make("box", skeleton=_SKELETON)
        with storage.root("box") as root:
            write(root, "kept", b"x")
        storage.reopen()
        with storage.root("box") as root:
            assert names(root) == [".marker", "dev", "etc", "kept", "run"]
        assert storage.changes("box") == ["A /kept"]

    # A folder of the host as the root.

    @requires(StorageCapability.EXTERNAL_ROOTFS)
    def test_a_folder_of_the_host_is_a_root(self, storage: Storage, place: Path) -> None:
        """It is seen, never written to; only what the container did is a change or a diff."""
        rootfs = _rootfs(place)
        before = _describe(rootfs)
        storage.make("box", rootfs=rootfs)
        with storage.root("box") as root:
            assert names(root) == ["etc", "file"]
            write(root, "etc/new", b"x")
            os.unlink("file", dir_fd=root)
        storage.reopen()
        assert storage.changes("box") == ["C /etc", "A /etc/new", "D /file"]
        with tarfile.open(fileobj=io.BytesIO(storage.diff("box"))) as tar:
            assert sorted(tar.getnames()) == [".wh.file", "etc", "etc/new"]
        storage.driver.remove_container("box")
        assert _describe(rootfs) == before

    @requires(StorageCapability.EXTERNAL_ROOTFS)
    def test_what_is_mounted_in_a_folder_of_the_host_is_not_seen(
        self, storage: Storage, place: Path
    ) -> None:
        """Other filesystems of the host do not come with the folder."""
        rootfs = _rootfs(place)
        inner = rootfs / "mounted"
        inner.mkdir()
        mount("tmpfs", inner, "tmpfs")
        try:
            (inner / "secret").touch()
            storage.make("box", rootfs=rootfs)
            with storage.root("box") as root:
                assert names(root, "mounted") == []
        finally:
            umount(inner)

    @requires(StorageCapability.EXTERNAL_ROOTFS)
    def test_a_folder_that_is_none_is_not_found(self, storage: Storage, place: Path) -> None:
        """Neither a missing path nor a file can be a root; nothing is created for it."""
        for wrong in (place / "missing", _rootfs(place) / "file"):
            with pytest.raises(NotFound):
                storage.make("box", rootfs=wrong)
        assert list(storage.driver.containers()) == []

    @refuses(StorageCapability.EXTERNAL_ROOTFS)
    @mandatory
    def test_a_folder_of_the_host_is_refused(self, storage: Storage, place: Path) -> None:
        """A driver that does not declare EXTERNAL_ROOTFS says so, and creates nothing."""
        with self.refused():
            storage.make("box", rootfs=_rootfs(place))
        assert list(storage.driver.containers()) == []

    # Id maps.

    @requires(StorageCapability.IDMAP)
    def test_an_id_map_shows_files_as_the_mapped_ids(self, storage: Storage) -> None:
        """Files that the layers store as uid 0 are the mapped root's; the layers are unchanged."""
        top = image(storage)
        with storage.opened_layer(top) as layer:
            before = describe_tree(layer)
        storage.make("box", top)
        with storage.root("box", IDMAP) as root:
            for name, uid, gid in ((".", 0, 0), ("etc", 3, 4), ("etc/passwd", 0, 0)):
                status = os.stat(name, dir_fd=root)
                assert (status.st_uid, status.st_gid) == (IDMAP.host_uid(uid), IDMAP.host_gid(gid))
        with storage.opened_layer(top) as layer:
            assert describe_tree(layer) == before

    @requires(StorageCapability.IDMAP)
    def test_a_diff_has_the_containers_ids(self, storage: Storage) -> None:
        """Made under an id map, a file is written as the container saw it."""
        storage.make("box", image(storage))
        with storage.root("box", IDMAP) as root:
            write(root, "etc/passwd", b"changed")
            write(root, "mine")
            os.chown("mine", IDMAP.host_uid(5), IDMAP.host_gid(6), dir_fd=root)
            within = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, IDMAP.host_uid(0))
            os.setxattr(f"/proc/self/fd/{root}/mine", "security.capability", within)
        assert storage.changes("box") == ["C /etc", "C /etc/passwd", "A /mine"]
        with tarfile.open(fileobj=io.BytesIO(storage.diff("box"))) as tar:
            owners = {member.name: (member.uid, member.gid) for member in tar}
            headers = tar.getmember("mine").pax_headers
        assert owners == {"etc": (3, 4), "etc/passwd": (0, 0), "mine": (5, 6)}
        # The kernel's revision 3, with the namespace's root in it, is plain revision 2 inside.
        value = headers["SCHILY.xattr.security.capability"].encode("latin-1")
        assert value == CAPABILITY

    @requires(StorageCapability.IDMAP)
    def test_an_id_map_is_found_again(self, storage: Storage) -> None:
        """A re-opened driver shows the container's files with the same owners."""
        storage.make("box", image(storage))
        with storage.root("box", IDMAP) as root:
            write(root, "mine")
            os.chown("mine", IDMAP.host_uid(0), IDMAP.host_gid(0), dir_fd=root)
            before = describe_tree(root)
        storage.reopen()
        with storage.root("box", IDMAP) as root:
            assert describe_tree(root) == before

    @refuses(StorageCapability.IDMAP)
    @mandatory
    def test_an_id_map_is_refused(self, storage: Storage) -> None:
        """A driver that does not declare IDMAP says so, and the container can be used without."""
        storage.make("box", image(storage))
        with self.refused(), storage.root("box", IDMAP):
            pass
        with storage.root("box") as root:
            assert read(root, "etc/passwd") == b"root"

    # Limits.

    @requires(StorageCapability.SIZE_LIMIT)
    def test_a_size_limit_holds(self, storage: Storage) -> None:
        """Writing beyond it fails, before and after a re-open; deleting makes room.

        Where the filesystem keeps no limits it is refused as if the driver did not declare it.
        """
        self._make_limited(storage, "box", image(storage))
        for _ in range(2):
            with storage.root("box") as root:
                with _full():
                    write(root, "large", os.urandom(2 * _LIMIT))
                os.unlink("large", dir_fd=root)
                write(root, "small", os.urandom(_LIMIT // 8))
            storage.reopen()

    @requires(StorageCapability.SIZE_LIMIT)
    def test_a_size_limit_is_its_containers_own(self, storage: Storage) -> None:
        """One that is full leaves room to another of the same image."""
        top = image(storage)
        self._make_limited(storage, "full", top)
        self._make_limited(storage, "other", top)
        with storage.root("full") as full, storage.root("other") as other:
            with _full():
                write(full, "large", os.urandom(2 * _LIMIT))
            write(other, "small", os.urandom(_LIMIT // 4))

    @refuses(StorageCapability.SIZE_LIMIT)
    @mandatory
    def test_a_size_limit_is_refused(self, storage: Storage) -> None:
        """A driver that does not declare SIZE_LIMIT says so, and creates nothing."""
        with self.refused():
            storage.make("box", size_limit=_LIMIT)
        assert list(storage.driver.containers()) == []

    def _make_limited(self, storage: Storage, key: str, parent: str) -> None:
        try:
            storage.make(key, parent, size_limit=_LIMIT)
        except UnsupportedOperation:
            with self.refused():
                storage.make(key, parent, size_limit=_LIMIT)
            assert list(storage.driver.containers()) == []
            storage.make(key, parent)
            pytest.skip("not applicable: no limits can be kept on this filesystem")

    @mandatory
    def test_what_inspect_shows_is_text(self, storage: Storage) -> None:
        """driver_data maps words to words, for a container that is here."""
        storage.opened.run(storage.driver.plan_create_container(ContainerLayer("box")))
        data = storage.driver.driver_data("box")
        assert all(isinstance(item, str) for pair in data.items() for item in pair)


@contextmanager
def _full() -> Iterator[None]:
    with pytest.raises(OSError, match=r"No space|quota") as caught:
        yield
    assert caught.value.errno in {errno.ENOSPC, errno.EDQUOT}


def _rootfs(place: Path) -> Path:
    rootfs = place / "rootfs"
    (rootfs / "etc").mkdir(parents=True, exist_ok=True)
    (rootfs / "file").write_bytes(b"the host's")
    return rootfs


def _describe(folder: Path) -> object:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return describe_tree(descriptor)
    finally:
        os.close(descriptor)
