"""Image layers: what is unpacked, what it hides, and when it may be removed."""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, Final

import pytest

from pannier.drivers.storage import Usage
from pannier.errors import Conflict, NotFound
from pannier.linux.mounts import move_mount, umount
from pannier.testing.archives import STAMP, archive, entry, sparse_entry
from pannier.testing.base import mandatory
from pannier.testing.storage_base import Storage, StorageTests, chain_of, image
from pannier.testing.trees import describe_tree, names, read, write

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CAPABILITY", "LayerTests"]

CAPABILITY: Final = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""What ``setcap cap_net_raw+ep`` writes (linux/capability.h, revision 2)."""

_MANY: Final = 130
"""More layers than one image has (127 in Docker), and than fit a page of mount options."""


class LayerTests(StorageTests):
    """Layers, without containers."""

    # What is unpacked.

    @mandatory
    def test_files_have_their_content_and_modes(self, storage: Storage) -> None:
        """Regular files, empty and larger than a buffer, and folders, as the archive has them."""
        large = bytes(range(256)) * 8192
        chain = storage.layer(
            "a",
            None,
            entry("empty", mode=0o600),
            entry("folder/", mode=0o711),
            entry("folder/large", large, mode=0o640),
        )
        with storage.opened_layer(chain) as root:
            assert names(root) == ["empty", "folder"]
            assert read(root, "empty") == b""
            assert read(root, "folder/large") == large
            modes = {
                name: stat.S_IMODE(os.stat(name, dir_fd=root).st_mode)
                for name in ("empty", "folder", "folder/large")
            }
        assert modes == {"empty": 0o600, "folder": 0o711, "folder/large": 0o640}

    @mandatory
    def test_owners_are_kept(self, storage: Storage) -> None:
        """Numeric owners of files, folders and links, beyond 16 bits too."""
        chain = storage.layer(
            "a",
            None,
            entry("file", uid=1000, gid=70_000),
            entry("folder/", uid=65_534, gid=1),
            entry("link", type=b"2", linkname="file", uid=7, gid=8),
        )
        with storage.opened_layer(chain) as root:
            tree = describe_tree(root)
        owners = {path: tree[path].owner for path in ("file", "folder", "link")}
        assert owners == {"file": (1000, 70_000), "folder": (65_534, 1), "link": (7, 8)}

    @mandatory
    def test_special_mode_bits_are_kept(self, storage: Storage) -> None:
        """Set-uid, set-gid and sticky bits survive, for owners that are not root too."""
        chain = storage.layer(
            "a",
            None,
            entry("su", b"#!", mode=0o4755),
            entry("wall", b"#!", mode=0o2755, uid=5, gid=6),
            entry("tmp/", mode=0o1777),
        )
        with storage.opened_layer(chain) as root:
            modes = [
                stat.S_IMODE(os.stat(name, dir_fd=root).st_mode) for name in ("su", "wall", "tmp")
            ]
        assert modes == [0o4755, 0o2755, 0o1777]

    @mandatory
    def test_modification_times_are_kept(self, storage: Storage) -> None:
        """Of files, links, and folders whose content came after them; with their fractions."""
        exact = entry("exact", xattrs={"mtime": "1234567890.123456789"})
        chain = storage.layer(
            "a",
            None,
            entry("folder/"),
            entry("folder/file"),
            entry("link", type=b"2", linkname="nowhere"),
            exact,
        )
        with storage.opened_layer(chain) as root:
            tree = describe_tree(root)
        for path in ("folder", "folder/file", "link"):
            assert tree[path].time == STAMP * 10**9, path
        assert tree["exact"].time == 1_234_567_890_123_456_789

    @mandatory
    def test_symbolic_links_are_kept_and_not_followed(self, storage: Storage) -> None:
        """Absolute, relative and dangling ones, as they are written."""
        targets = {"absolute": "/etc/passwd", "relative": "../x", "dangling": "no/where"}
        links = [entry(name, type=b"2", linkname=target) for name, target in targets.items()]
        chain = storage.layer("a", None, *links)
        with storage.opened_layer(chain) as root:
            tree = describe_tree(root)
        assert {path: tree[path].content.decode() for path in targets} == targets

    @mandatory
    def test_hard_links_share_one_file(self, storage: Storage) -> None:
        """Names of one file stay names of one file, also across folders."""
        chain = storage.layer(
            "a",
            None,
            entry("one", b"shared"),
            entry("folder/"),
            entry("folder/two", type=b"1", linkname="one"),
        )
        with storage.opened_layer(chain) as root:
            one, two = (os.stat(name, dir_fd=root) for name in ("one", "folder/two"))
            assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)
            assert read(root, "folder/two") == b"shared"

    @mandatory
    def test_a_hard_link_may_lead_to_a_layer_below(self, storage: Storage) -> None:
        """The content is there under the new name."""
        base = storage.layer("base", None, entry("below", b"content"))
        top = storage.layer("top", base, entry("above", type=b"1", linkname="below"))
        with storage.opened_layer(top) as root:
            assert read(root, "above") == read(root, "below") == b"content"

    @mandatory
    def test_devices_and_fifos_are_made(self, storage: Storage) -> None:
        """Character and block devices with their numbers, and named pipes."""
        chain = storage.layer(
            "a",
            None,
            entry("null", type=b"3", devmajor=1, devminor=3, mode=0o666),
            entry("loop", type=b"4", devmajor=7, devminor=300, mode=0o660, gid=6),
            entry("pipe", type=b"6", mode=0o600),
        )
        with storage.opened_layer(chain) as root:
            null, loop, pipe = (os.stat(name, dir_fd=root) for name in ("null", "loop", "pipe"))
        assert stat.S_ISCHR(null.st_mode)
        assert null.st_rdev == os.makedev(1, 3)
        assert stat.S_IMODE(null.st_mode) == 0o666
        assert stat.S_ISBLK(loop.st_mode)
        assert loop.st_rdev == os.makedev(7, 300)
        assert stat.S_ISFIFO(pipe.st_mode)

    @mandatory
    def test_file_capabilities_are_kept(self, storage: Storage) -> None:
        """security.capability survives, beside the owner and the mode."""
        value = CAPABILITY.decode("latin-1")
        headers = {"SCHILY.xattr.security.capability": value}
        ping = entry("ping", b"elf", mode=0o755, uid=2, xattrs=headers)
        chain = storage.layer("a", None, ping)
        with storage.opened_layer(chain) as root:
            facts = describe_tree(root)["ping"]
        assert facts.attributes == {b"security.capability": CAPABILITY}
        assert facts.owner[0] == 2

    def test_user_attributes_are_kept(self, storage: Storage) -> None:
        """Extended attributes of the namespace user, of files and folders, any bytes."""
        _need_user_attributes(storage.context.root)
        headers = {"SCHILY.xattr.user.note": "tä\tg"}
        members = entry("file", xattrs=headers), entry("folder/", xattrs=headers)
        chain = storage.layer("a", None, *members)
        with storage.opened_layer(chain) as root:
            tree = describe_tree(root)
        for path in ("file", "folder"):
            assert tree[path].attributes == {b"user.note": "tä\tg".encode()}

    @mandatory
    def test_names_may_be_any_bytes(self, storage: Storage) -> None:
        """No encoding is assumed: invalid UTF-8, a newline, a long name, a deep path."""
        odd = [os.fsdecode(b"\xff\xfe"), "new\nline", "n" * 200]
        deep = "/".join(["deep"] * 60)
        chain = storage.layer("a", None, *(entry(name, b"x") for name in odd), entry(deep + "/f"))
        with storage.opened_layer(chain) as root:
            assert names(root) == sorted([*odd, "deep"])
            assert names(root, deep) == ["f"]

    def test_holes_stay_holes(self, storage: Storage) -> None:
        """A sparse file has its whole size and content, and takes up what its data needs."""
        size, middle = 64 << 20, 32 << 20
        chain = storage.layer("a", None, sparse_entry("disk", size, middle, b"data" * 128))
        with storage.opened_layer(chain) as root:
            status = os.stat("disk", dir_fd=root)
            content = read(root, "disk")
        assert status.st_size == len(content) == size
        assert content[middle : middle + 512] == b"data" * 128
        assert not content[:middle].strip(b"\0")
        assert status.st_blocks * 512 < 1 << 20, "the hole was written as zeros"

    # Identity and life cycle.

    @mandatory
    def test_layers_are_listed(self, storage: Storage) -> None:
        """What was created is there and listed, once; nothing else is."""
        assert list(storage.driver.layers()) == []
        top = image(storage)
        assert sorted(storage.driver.layers()) == sorted([top, chain_of("base")])
        assert storage.driver.has_layer(top)
        assert not storage.driver.has_layer(chain_of("other"))

    @mandatory
    def test_layers_are_found_again(self, storage: Storage) -> None:
        """A re-opened driver has the same layers, the same trees and the same figures."""
        top = image(storage)
        with storage.opened_layer(top) as root:
            before = describe_tree(root)
        usage = storage.driver.layer_usage(top)
        storage.reopen()
        assert sorted(storage.driver.layers()) == sorted([top, chain_of("base")])
        assert storage.driver.layer_usage(top) == usage
        with storage.opened_layer(top) as root:
            assert describe_tree(root) == before

    @mandatory
    def test_a_second_creation_changes_nothing(self, storage: Storage) -> None:
        """An existing layer is kept, its usage returned, and the stream not read."""
        chain = chain_of("a")
        usage = storage.driver.create_layer(chain, None, archive(entry("first", b"1234")))
        stream = archive(entry("second"))
        assert storage.driver.create_layer(chain, None, stream) == usage
        assert stream.tell() == 0
        with storage.opened_layer(chain) as root:
            assert names(root) == ["first"]

    @mandatory
    def test_usage_is_the_layers_own(self, storage: Storage) -> None:
        """Apparent bytes of files and symbolic links, hard links once, parents left out."""
        base = storage.layer("base", None, entry("big", bytes(100_000)))
        usage = storage.driver.create_layer(
            chain_of("top"),
            base,
            archive(
                entry("f/"),
                entry("f/a", b"12345"),
                entry("f/b", type=b"1", linkname="f/a"),
                entry("link", type=b"2", linkname="f"),
            ),
        )
        assert usage == storage.driver.layer_usage(chain_of("top")) == Usage(6, 3)

    @mandatory
    def test_an_empty_layer_is_a_layer(self, storage: Storage) -> None:
        """An archive without entries shows what is below, or nothing."""
        empty = storage.layer("empty", None)
        over = storage.layer("over", image(storage))
        with storage.opened_layer(empty) as root:
            assert names(root) == []
        with storage.opened_layer(over) as root, storage.opened_layer(chain_of("top")) as below:
            assert describe_tree(root) == describe_tree(below)
        assert storage.driver.layer_usage(over) == Usage(0, 0)

    @mandatory
    def test_a_missing_parent_is_not_found(self, storage: Storage) -> None:
        """Nothing is created over a layer that is not here."""
        with pytest.raises(NotFound):
            storage.layer("a", chain_of("missing"), entry("file"))
        assert list(storage.driver.layers()) == []

    @mandatory
    def test_a_missing_layer_is_not_found(self, storage: Storage) -> None:
        """It has no usage and cannot be opened; removing it is no error."""
        with pytest.raises(NotFound):
            storage.driver.layer_usage(chain_of("missing"))
        with pytest.raises(NotFound):
            storage.driver.open_layer(chain_of("missing"))
        storage.driver.remove_layer(chain_of("missing"))

    @mandatory
    def test_a_layer_in_use_is_not_removed(self, storage: Storage) -> None:
        """Neither below another layer, nor below a container; both are whole afterwards."""
        top = image(storage)
        storage.make("box", top)
        for chain in (chain_of("base"), top):
            with pytest.raises(Conflict):
                storage.driver.remove_layer(chain)
        storage.reopen()
        for chain in (chain_of("base"), top):
            with pytest.raises(Conflict):
                storage.driver.remove_layer(chain)
        with storage.root("box") as root:
            assert read(root, "etc/passwd") == b"root"

    @mandatory
    def test_a_removed_layer_is_gone_for_good(self, storage: Storage) -> None:
        """Removed twice without an error, not found by a re-opened driver, and can come again."""
        top = image(storage)
        for _ in range(2):
            storage.driver.remove_layer(top)
        storage.reopen()
        assert list(storage.driver.layers()) == [chain_of("base")]
        assert not storage.driver.has_layer(top)
        again = storage.layer("top", chain_of("base"), entry("other"))
        with storage.opened_layer(again) as root:
            assert "other" in names(root)
            assert "tool" not in names(root)

    @mandatory
    def test_layers_of_one_parent_are_apart(self, storage: Storage) -> None:
        """What one changes the other does not show; each can be removed by itself."""
        base = storage.layer("base", None, entry("file", b"base"))
        left = storage.layer("left", base, entry("file", b"left"))
        right = storage.layer("right", base, entry(".wh.file"), entry("new"))
        storage.driver.remove_layer(left)
        with storage.opened_layer(right) as root:
            assert names(root) == ["new"]
        with storage.opened_layer(base) as root:
            assert read(root, "file") == b"base"

    def test_many_layers_unite(self, storage: Storage) -> None:
        """More than a hundred layers, and a container over all of them that can be written to."""
        parent = None
        for number in range(_MANY):
            parent = storage.layer(f"{number}", parent, entry(f"file{number}"))
        storage.make("box", parent)
        with storage.root("box") as root:
            assert len(names(root)) == _MANY
            write(root, "file0", b"written")
            os.unlink("file1", dir_fd=root)
        assert storage.changes("box") == ["C /file0", "D /file1"]

    # Opened layers.

    @mandatory
    def test_an_opened_layer_is_read_only(self, storage: Storage) -> None:
        """Nothing can be written through it, be it one layer or several."""
        top = image(storage)
        for chain in (chain_of("base"), top):
            with storage.opened_layer(chain) as root:
                with pytest.raises(OSError, match="Read-only") as caught:
                    write(root, "etc/new")
                assert caught.value.errno == errno.EROFS

    @mandatory
    def test_an_opened_layer_is_a_detached_mount(self, storage: Storage, place: Path) -> None:
        """It can be attached somewhere, as open_tree's and fsmount's descriptors can."""
        target = place / "attached"
        target.mkdir()
        with storage.opened_layer(image(storage)) as root:
            move_mount(root, target)
            try:
                assert (target / "etc" / "passwd").read_bytes() == b"root"
            finally:
                umount(target)


def _need_user_attributes(folder: Path) -> None:
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"x")
    except OSError:
        pytest.skip(f"the filesystem of {folder} has no user attributes; choose another `place`")
    finally:
        probe.unlink()
