"""What a container changed: listed, measured, written as a layer, and made one."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile

import pytest

from pannier.drivers.storage import Usage
from pannier.errors import Conflict
from pannier.testing.archives import entry
from pannier.testing.base import mandatory
from pannier.testing.storage_base import Storage, StorageTests, chain_of, image
from pannier.testing.storage_layers import CAPABILITY
from pannier.testing.trees import Facts, describe_tree, read, write

__all__ = ["DiffTests"]


class DiffTests(StorageTests):
    """A container's own layer, as the image builder and ``docker diff`` see it."""

    # Changes.

    @mandatory
    def test_a_new_container_has_no_changes(self, storage: Storage) -> None:
        """None are listed, nothing is measured, and an empty archive is written."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            assert read(root, "etc/passwd") == b"root"
        assert storage.changes("box") == []
        assert storage.driver.usage("box") == Usage(0, 0)
        assert _members(storage.diff("box")) == []

    @mandatory
    def test_changes_are_those_of_docker_diff(self, storage: Storage) -> None:
        """Added, changed and deleted paths and their folders, sorted, while it is mounted."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            write(root, "etc/passwd", b"more")
            write(root, "usr/lib/libc", b"c")
            os.unlink("usr/lib/so", dir_fd=root)
            os.mkdir("var", dir_fd=root)
            os.chmod("tool", 0o700, dir_fd=root)
            assert storage.changes("box") == [
                "C /etc",
                "C /etc/passwd",
                "C /tool",
                "C /usr",
                "C /usr/lib",
                "A /usr/lib/libc",
                "D /usr/lib/so",
                "A /var",
            ]

    @mandatory
    def test_a_folder_made_anew_lists_what_it_hides(self, storage: Storage) -> None:
        """After rm -r and mkdir the old content is deleted, in folders below too."""
        chain = storage.layer(
            "deep", None, entry("a/"), entry("a/b/"), entry("a/b/x"), entry("a/y")
        )
        storage.make("box", chain)
        with storage.root("box") as root:
            for path in ("a/b/x", "a/y"):
                os.unlink(path, dir_fd=root)
            for path in ("a/b", "a"):
                os.rmdir(path, dir_fd=root)
            for path in ("a", "a/b"):
                os.mkdir(path, dir_fd=root)
            write(root, "a/new", b"")
        assert storage.changes("box") == ["C /a", "C /a/b", "D /a/b/x", "A /a/new", "D /a/y"]

    @mandatory
    def test_a_file_whose_size_and_time_were_set_back_has_changed(self, storage: Storage) -> None:
        """What is written is a change, however it is covered up."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            before = os.stat("etc/passwd", dir_fd=root)
            write(root, "etc/passwd", b"r00t")
            os.utime("etc/passwd", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=root)
        assert "C /etc/passwd" in storage.changes("box")

    @mandatory
    def test_what_came_and_went_is_no_change(self, storage: Storage) -> None:
        """A file that only the container ever had is gone without a trace of it."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            write(root, "usr/temporary", b"")
            os.unlink("usr/temporary", dir_fd=root)
        assert [change for change in storage.changes("box") if "temporary" in change] == []
        assert "usr/temporary" not in " ".join(_members(storage.diff("box")))

    @mandatory
    def test_usage_is_the_containers_own(self, storage: Storage) -> None:
        """Apparent bytes and files that it added, hard links once, found again by a re-open."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            write(root, "one", b"12345")
            os.link("one", "two", src_dir_fd=root, dst_dir_fd=root)
        assert storage.driver.usage("box") == Usage(5, 1)
        storage.reopen()
        assert storage.driver.usage("box") == Usage(5, 1)

    # The container's layer as an archive.

    @mandatory
    def test_a_diff_applied_as_a_layer_gives_the_same_tree(self, storage: Storage) -> None:
        """Commit: written over the image again, it is what the container had, to the last file."""
        top = image(storage)
        storage.make("box", top)
        with storage.root("box") as root:
            _change(root)
            before = describe_tree(root)
        chain, usage = storage.commit("box", "commit", top)
        assert usage.size == storage.driver.layer_usage(chain).size
        with storage.opened_layer(chain) as layer:
            after = describe_tree(layer)
        del before["socket"]  # a socket without its process is nothing
        assert _below(after) == _below(before)

    @mandatory
    def test_a_diff_holds_the_changes_and_nothing_else(self, storage: Storage) -> None:
        """An OCI layer: sorted, whiteouts for what was deleted, numeric owners, no socket."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            write(root, "etc/passwd", b"more")
            os.unlink("tool", dir_fd=root)
            write(root, "b", b"")
            write(root, "a", b"")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"/proc/self/fd/{root}/socket")
        diff = storage.diff("box")
        assert sorted(_members(diff)) == [".wh.tool", "a", "b", "etc", "etc/passwd"]
        with tarfile.open(fileobj=io.BytesIO(diff)) as tar:
            assert {(member.uname, member.gname) for member in tar} == {("", "")}
            order = [name for name in tar.getnames() if ".wh." not in name]
        assert order == sorted(order)

    @mandatory
    def test_a_diff_is_deterministic(self, storage: Storage) -> None:
        """The same tree gives the same bytes, in whatever order its files were made."""
        top = image(storage)
        files = [f"file{number}" for number in range(20)]
        for key, order in (("one", files), ("two", files[::-1])):
            storage.make(key, top)
            with storage.root(key) as root:
                for name in order:
                    write(root, name, name.encode())
                    for attribute in ("user.b", "user.a"):
                        _set_attribute(root, name, attribute)
                    os.utime(name, (0, 1_500_000_000), dir_fd=root)
                os.utime(".", (0, 1_500_000_000), dir_fd=root)
        assert storage.diff("one") == storage.diff("one")
        assert storage.diff("one") == storage.diff("two")
        before = storage.diff("one")
        storage.reopen()
        assert storage.diff("one") == before

    @mandatory
    def test_a_copy_up_keeps_what_a_file_has(self, storage: Storage) -> None:
        """Linked or appended to, a file of the image has its owner, mode and capabilities still."""
        headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
        ping = entry("ping", b"elf", mode=0o4755, uid=2, xattrs=headers)
        chain = storage.layer("ping", None, ping, entry("log", b"1", mode=0o640, uid=3, gid=4))
        storage.make("box", chain)
        with storage.root("box") as root:
            os.link("ping", "ping6", src_dir_fd=root, dst_dir_fd=root)
            descriptor = os.open("log", os.O_WRONLY | os.O_APPEND, dir_fd=root)
            os.write(descriptor, b"2")
            os.close(descriptor)
        with storage.root("box") as root:
            tree = describe_tree(root)
        assert tree["ping"].attributes == {b"security.capability": CAPABILITY}
        assert tree["ping"].mode == oct(stat.S_IFREG | 0o4755)
        assert tree["ping6"].links == "ping"
        assert (tree["log"].content, tree["log"].owner) == (b"12", (3, 4))
        assert tree["log"].mode == oct(stat.S_IFREG | 0o640)
        with tarfile.open(fileobj=io.BytesIO(storage.diff("box"))) as tar:
            kept = [member.pax_headers for member in tar if member.name in {"ping", "ping6"}]
        assert any("SCHILY.xattr.security.capability" in headers for headers in kept)

    @mandatory
    def test_an_adopted_layer_is_the_one_that_the_diff_makes(self, storage: Storage) -> None:
        """A driver that has no short cut has changed nothing; one that has gives the same tree."""
        top = image(storage)
        storage.make("box", top)
        with storage.root("box") as root:
            _change(root)
            os.unlink("socket", dir_fd=root)
            before = describe_tree(root)
        diff = storage.diff("box")
        usage = storage.driver.adopt_container("box", chain_of("adopted"))
        if usage is None:
            assert not storage.driver.has_layer(chain_of("adopted"))
            assert storage.diff("box") == diff
            return
        by_diff = storage.driver.create_layer(chain_of("by diff"), top, io.BytesIO(diff))
        for _ in range(2):
            storage.driver.remove_container("box")
        storage.reopen()
        assert usage.size == by_diff.size == storage.driver.layer_usage(chain_of("adopted")).size
        with storage.opened_layer(chain_of("adopted")) as layer:
            assert _below(describe_tree(layer)) == _below(before)
        with pytest.raises(Conflict):
            storage.driver.remove_layer(top)


def _below(tree: dict[str, Facts]) -> dict[str, Facts]:
    """Leave out the root itself, which has no entry in a layer."""
    return {path: facts for path, facts in tree.items() if path != "."}


def _members(diff: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(diff)) as tar:
        return tar.getnames()


def _set_attribute(root: int, name: str, attribute: str) -> None:
    try:
        os.setxattr(f"/proc/self/fd/{root}/{name}", attribute, b"value")
    except OSError:  # the filesystem has none: then they are in no diff
        return


def _change(root: int) -> None:
    """Change the image's tree in every way, and leave times that are no whole seconds."""
    write(root, "etc/passwd", b"more")
    os.mkdir("etc/ssl", dir_fd=root)
    os.link("etc/passwd", "etc/passwd-", src_dir_fd=root, dst_dir_fd=root)
    os.unlink("data/new", dir_fd=root)
    os.rmdir("data", dir_fd=root)
    os.mkdir("data", 0o700, dir_fd=root)
    write(root, "data/fresh", b"fresh")
    os.unlink("tool", dir_fd=root)
    os.mkdir("tool", dir_fd=root)
    os.mkfifo("fifo", dir_fd=root)
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=root)
    os.symlink("etc/passwd", "link", dir_fd=root)
    os.chown("usr/lib/so", 5, 6, dir_fd=root)
    os.setxattr(f"/proc/self/fd/{root}/etc/passwd", "security.capability", CAPABILITY)
    with os.fdopen(os.open("sparse", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root), "wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{root}/socket")
