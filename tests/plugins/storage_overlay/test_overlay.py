"""The overlay driver on the real kernel."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, IdMap, IdMapping
from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer, StorageCapability
from pannier.errors import (
    Conflict,
    DriverUnavailable,
    ImageInvalid,
    InvalidRequest,
    NotFound,
    UnsupportedOperation,
)
from pannier.linux.mounts import mount, umount
from pannier_storage_overlay import union
from pannier_storage_overlay.driver import OverlayConfig, OverlayStorage
from support.layers import Layers, archive, entry, names, read, snapshot, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

IDMAP = IdMap((IdMapping(0, 100000, 65536),), (IdMapping(0, 200000, 65536),))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""What ``setcap cap_net_raw+ep`` writes."""


@pytest.fixture
def image(overlay: Layers) -> Layers:
    """Give the driver with an image of two layers, sha256:base and sha256:top."""
    base = overlay.layer(
        "base",
        None,
        entry("etc/", mode=0o750, uid=3, gid=4),
        entry("etc/passwd", b"root"),
        entry("etc/group", b"root"),
        entry("usr/"),
        entry("usr/lib/"),
        entry("lib", type=tarfile.SYMTYPE, linkname="usr/lib"),
        entry("data/"),
        entry("data/old", b"old"),
        entry("data/keep", b"keep"),
    )
    overlay.layer(
        "top",
        base,
        entry("etc/.wh.group"),
        entry("lib/so", b"so"),
        entry("data/.wh..wh..opq"),
        entry("data/new", b"new"),
    )
    return overlay


@pytest.fixture
def root(image: Layers) -> Iterator[int]:
    """Give the root of a container "box" of the image."""
    image.container("box", "sha256:top")
    descriptor = image.root("box")
    yield descriptor
    os.close(descriptor)


def test_a_root_is_the_union_of_the_layers(root: int) -> None:
    """Whiteouts and opaque folders of an image hide what is below; the rest is there."""
    assert names(root) == ["data", "etc", "lib", "usr"]
    assert names(root, "etc") == ["passwd"]
    assert names(root, "data") == ["new"]
    assert read(root, "etc/passwd") == b"root"


def test_a_parent_folder_that_the_archive_leaves_out_stays_as_it_was(root: int) -> None:
    """A layer that holds only etc/.wh.group does not change the folder etc."""
    status = os.stat("etc", dir_fd=root)
    assert stat.S_IMODE(status.st_mode) == 0o750
    assert (status.st_uid, status.st_gid) == (3, 4)
    assert status.st_mtime == 1_600_000_000


def test_a_link_of_a_lower_layer_is_followed_for_parents(root: int) -> None:
    """An entry lib/so lands in usr/lib where a layer below has lib as a link to it."""
    assert stat.S_ISLNK(os.stat("lib", dir_fd=root, follow_symlinks=False).st_mode)
    assert names(root, "usr/lib") == ["so"]


def test_changes_are_those_of_docker_diff(image: Layers, root: int) -> None:
    """Added, modified and deleted files, and the folders that hold them, sorted."""
    write(root, "etc/passwd", b"more")
    write(root, "usr/lib/libc", b"c")
    os.unlink("usr/lib/so", dir_fd=root)
    os.mkdir("var", dir_fd=root)
    assert image.changes("box") == [
        "C /etc",
        "C /etc/passwd",
        "C /usr",
        "C /usr/lib",
        "A /usr/lib/libc",
        "D /usr/lib/so",
        "A /var",
    ]


def test_a_folder_made_anew_lists_what_it_hides(image: Layers, root: int) -> None:
    """After rm -r and mkdir, the old content is deleted, though no whiteout says so."""
    os.unlink("data/new", dir_fd=root)
    os.rmdir("data", dir_fd=root)
    os.mkdir("data", dir_fd=root)
    write(root, "data/fresh", b"")
    assert image.changes("box") == ["C /data", "A /data/fresh", "D /data/new"]


def test_nested_folders_of_an_opaque_one_list_what_they_hide(overlay: Layers) -> None:
    """Overlayfs marks only the topmost folder that was made anew."""
    overlay.layer("deep", None, entry("a/"), entry("a/b/"), entry("a/b/x"), entry("a/y"))
    overlay.container("box", "sha256:deep")
    root = overlay.root("box")
    for path in ("a/b/x", "a/y"):
        os.unlink(path, dir_fd=root)
    for path in ("a/b", "a"):
        os.rmdir(path, dir_fd=root)
    for path in ("a", "a/b"):
        os.mkdir(path, dir_fd=root)
    os.close(root)
    assert overlay.changes("box") == ["C /a", "C /a/b", "D /a/b/x", "D /a/y"]


def test_a_folder_that_was_only_copied_up_is_no_change(image: Layers, root: int) -> None:
    """Opening a file for writing copies its folders up; without a write only it counts."""
    os.chmod("usr/lib", 0o755, dir_fd=root)
    assert image.changes("box") == []


def test_deleting_what_was_added_leaves_no_deletion(image: Layers, root: int) -> None:
    """A file that only the container ever had is gone without a trace."""
    write(root, "usr/temporary", b"")
    os.unlink("usr/temporary", dir_fd=root)
    assert image.changes("box") == ["C /usr"]  # its modification time


def test_a_diff_applied_as_a_layer_gives_the_same_tree(image: Layers, root: int) -> None:
    """Commit: what is written as a diff is, over the image, what the container had."""
    write(root, "etc/passwd", b"more")
    os.mkdir("etc/ssl", dir_fd=root)
    os.unlink("data/new", dir_fd=root)
    os.rmdir("data", dir_fd=root)
    os.mkdir("data", dir_fd=root)
    os.link("etc/passwd", "etc/passwd-", src_dir_fd=root, dst_dir_fd=root)
    before = snapshot(root)
    image.driver.create_layer("sha256:commit", "sha256:top", io.BytesIO(image.diff("box")))
    committed = image.driver.open_layer("sha256:commit")
    try:
        assert snapshot(committed) == before
        first, second = (
            os.stat(name, dir_fd=committed).st_ino for name in ("etc/passwd", "etc/passwd-")
        )
        assert first == second
    finally:
        os.close(committed)


def test_a_diff_is_deterministic(image: Layers, root: int) -> None:
    """The same tree gives the same bytes."""
    for name in ("b", "a", "c"):
        write(root, name, name.encode())
    assert image.diff("box") == image.diff("box")
    with tarfile.open(fileobj=io.BytesIO(image.diff("box"))) as tar:
        assert tar.getnames() == ["a", "b", "c"]
        assert {member.uname for member in tar} == {""}


def test_a_layer_is_opened_read_only(image: Layers) -> None:
    """Nothing can be written through open_layer, of one layer or several."""
    for chain in ("sha256:base", "sha256:top"):
        descriptor = image.driver.open_layer(chain)
        try:
            with pytest.raises(OSError, match="Read-only"):
                write(descriptor, "etc/x", b"")
        finally:
            os.close(descriptor)


def test_file_capabilities_survive_layers_copy_up_and_commit(overlay: Layers) -> None:
    """security.capability is kept by unpacking, by a copy-up, and in a diff."""
    value = CAPABILITY.decode("latin-1")
    ping = entry("ping", b"elf", mode=0o4755, xattrs={"SCHILY.xattr.security.capability": value})
    overlay.layer("ping", None, ping)
    overlay.container("box", "sha256:ping")
    root = overlay.root("box")
    try:
        os.link("ping", "ping6", src_dir_fd=root, dst_dir_fd=root)
        path = f"/proc/self/fd/{root}/ping"
        assert os.getxattr(path, "security.capability") == CAPABILITY
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o4755
    finally:
        os.close(root)
    with tarfile.open(fileobj=io.BytesIO(overlay.diff("box"))) as tar:
        headers = tar.getmember("ping").pax_headers
        assert headers["SCHILY.xattr.security.capability"].encode("latin-1") == CAPABILITY


def test_state_is_found_again(image: Layers) -> None:
    """A re-opened driver has the same layers, containers and changes."""
    image.container("box", "sha256:top")
    root = image.root("box")
    write(root, "file", b"kept")
    os.close(root)
    image.reopen()
    assert sorted(image.driver.layers()) == ["sha256:base", "sha256:top"]
    assert list(image.driver.containers()) == ["box"]
    assert image.driver.layer_usage("sha256:top").size == len("so" + "new")
    assert image.changes("box") == ["A /file"]
    root = image.root("box")
    assert read(root, "file") == b"kept"
    os.close(root)


def test_what_a_killed_process_left_is_removed(image: Layers, tmp_path: Path) -> None:
    """Half-made and half-removed folders go when the driver is opened again."""
    store = tmp_path / "overlay" / "root"
    for name in ("staging", "trash"):
        (store / name / "123-0-abcd" / "diff" / "folder").mkdir(parents=True)
        (store / name / "123-0-abcd" / "diff" / "folder" / "file").touch()
    image.reopen()
    image.settle()
    assert not list((store / "staging").iterdir())
    assert not list((store / "trash").iterdir())
    assert image.driver.has_layer("sha256:top")


def test_a_broken_archive_leaves_nothing(overlay: Layers, tmp_path: Path) -> None:
    """A layer appears whole or not at all."""
    with pytest.raises(ImageInvalid):
        overlay.driver.create_layer("sha256:bad", None, io.BytesIO(b"no archive" * 100))
    assert not overlay.driver.has_layer("sha256:bad")
    assert not list((tmp_path / "overlay" / "root" / "staging").iterdir())


def test_a_second_creation_changes_nothing(image: Layers) -> None:
    """An existing layer is kept, and its stream not read."""
    stream = archive(entry("other"))
    usage = image.driver.create_layer("sha256:top", "sha256:base", stream)
    assert usage == image.driver.layer_usage("sha256:top")
    assert stream.tell() == 0
    image.container("box", "sha256:top")
    root = image.root("box")
    write(root, "file", b"")
    os.close(root)
    image.container("box", "sha256:top")
    assert image.changes("box") == ["A /file"]


def test_removing(image: Layers) -> None:
    """A layer that something stands on is not removed; the rest is, any number of times."""
    image.container("box", "sha256:top")
    with pytest.raises(Conflict, match="container box"):
        image.driver.remove_layer("sha256:top")
    with pytest.raises(Conflict, match="sha256:top"):
        image.driver.remove_layer("sha256:base")
    for _ in range(2):
        image.driver.remove_container("box")
    for name in ("sha256:top", "sha256:base", "sha256:base"):
        image.driver.remove_layer(name)
    assert not list(image.driver.layers())


def test_what_is_not_there_is_not_found(overlay: Layers) -> None:
    """Every question about an unknown layer or container raises NotFound."""
    driver = overlay.driver
    questions: list[Callable[[str], object]] = [driver.layer_usage, driver.open_layer]
    questions += [driver.changes, driver.usage, driver.plan_open_root]
    for ask in questions:
        with pytest.raises(NotFound):
            ask("sha256:none")
    with pytest.raises(NotFound):
        driver.create_layer("sha256:a", "sha256:none", archive())
    with pytest.raises(NotFound):
        driver.plan_create_container(ContainerLayer("box", "sha256:none"))
    with pytest.raises(NotFound):
        driver.plan_create_container(ContainerLayer("box", rootfs=Path("/nowhere")))
    for name in ("../../etc", "", "sha256:../x"):
        with pytest.raises(InvalidRequest):
            driver.create_layer(name, None, archive())
    with pytest.raises(InvalidRequest):
        driver.plan_create_container(ContainerLayer("../x"))
    with pytest.raises(UnsupportedOperation):
        driver.plan_create_container(ContainerLayer("box", size_limit=1))


@pytest.mark.parametrize("way", ["by descriptors", "in a thread"])
@pytest.mark.parametrize("count", [2, 200, 300])
def test_images_of_many_layers_mount(
    overlay: Layers, monkeypatch: pytest.MonkeyPatch, count: int, way: str
) -> None:
    """Hundreds of layers do not fit one page of options by their paths; both ways take them."""
    if way == "in a thread":
        _refuse_descriptors(monkeypatch)
    parent = None
    for number in range(count):
        parent = overlay.layer(f"{number:064x}", parent, entry(f"file{number}"))
    overlay.container("box", parent)
    root = overlay.root("box")
    try:
        assert len(names(root)) == count
        write(root, "file0", b"written")
        os.unlink("file1", dir_fd=root)
    finally:
        os.close(root)
    assert overlay.changes("box") == ["C /file0", "D /file1"]


def _refuse_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel seem one that has no overlay with the new mount interface."""

    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(union, "fsconfig_create", refuse)


def test_a_way_that_the_kernel_refused_is_not_tried_again(
    image: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try would leave a complaint in the kernel's log."""
    _refuse_descriptors(monkeypatch)
    image.container("box", "sha256:top")
    os.close(image.root("box"))
    monkeypatch.setattr(union, "fsopen", None)
    os.close(image.root("box"))


def test_more_layers_than_the_kernel_takes_are_a_clear_error(overlay: Layers) -> None:
    """The bound is named, with what to do."""
    folders = ("/",) * 501
    with pytest.raises(UnsupportedOperation, match=r"501 layers.*500") as caught:
        union.Mounter().mount(union.Union(folders, "/"))
    assert caught.value.hint is not None
    assert "vfs" in caught.value.hint
    assert overlay.driver.capabilities == {
        StorageCapability.EXTERNAL_ROOTFS,
        StorageCapability.IDMAP,
    }


@pytest.mark.parametrize("way", ["by descriptors", "in a thread"])
def test_the_hosts_root_as_a_lower_layer(
    overlay: Layers, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Rootfs / works though the driver's own folders are in it, and is never written to."""
    if way == "in a thread":
        _refuse_descriptors(monkeypatch)
    overlay.container("box", rootfs=Path("/"))
    root = overlay.root("box")
    try:
        assert set(names(root)) == set(os.listdir("/"))  # noqa: PTH208 - names, as above
        write(root, "etc/pannier-was-here", b"x")
        assert not Path("/etc/pannier-was-here").exists()
    finally:
        os.close(root)
    assert overlay.changes("box") == ["C /etc", "A /etc/pannier-was-here"]
    with tarfile.open(fileobj=io.BytesIO(overlay.diff("box"))) as tar:
        assert tar.getnames() == ["etc", "etc/pannier-was-here"]


@pytest.mark.parametrize("way", ["by descriptors", "in a thread"])
def test_what_is_mounted_in_a_rootfs_is_not_seen(
    overlay: Layers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """A container over / sees an empty /proc, not the host's."""
    if way == "in a thread":
        _refuse_descriptors(monkeypatch)
    folder = tmp_path / "rootfs" / "mounted"
    folder.mkdir(parents=True)
    mount("tmpfs", folder, "tmpfs")
    try:
        (folder / "secret").touch()
        overlay.container("box", rootfs=tmp_path / "rootfs")
        root = overlay.root("box")
        assert names(root, "mounted") == []
        os.close(root)
    finally:
        umount(folder)


@pytest.mark.parametrize("way", ["by descriptors", "in a thread"])
def test_an_id_map_shows_files_as_the_mapped_ids(
    image: Layers, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Nothing is chowned: the lower layers keep their ids, the union shows mapped ones."""
    if way == "in a thread":
        _refuse_descriptors(monkeypatch)
    image.container("box", "sha256:top")
    root = image.root("box", IDMAP)
    try:
        for name, uid, gid in ((".", 0, 0), ("etc", 3, 4), ("etc/passwd", 0, 0)):
            status = os.stat(name, dir_fd=root)
            assert (status.st_uid, status.st_gid) == (100000 + uid, 200000 + gid)
        write(root, "etc/passwd", b"changed")
        write(root, "mine", b"")
        os.chown("mine", 100005, 200005, dir_fd=root)
    finally:
        os.close(root)
    assert image.changes("box") == ["C /etc", "C /etc/passwd", "A /mine"]
    with tarfile.open(fileobj=io.BytesIO(image.diff("box"))) as tar:
        owners = {member.name: (member.uid, member.gid) for member in tar}
    assert owners == {"etc": (3, 4), "etc/passwd": (0, 0), "mine": (5, 5)}


def test_the_id_map_stays_with_the_layer(image: Layers) -> None:
    """After a re-open it is still known; another one is refused."""
    image.container("box", "sha256:top")
    os.close(image.root("box", IDMAP))
    image.reopen()
    root = image.root("box")
    assert os.stat("etc/passwd", dir_fd=root).st_uid == 100000
    os.close(root)
    other = IdMap((IdMapping(0, 300000, 1000),), (IdMapping(0, 300000, 1000),))
    with pytest.raises(Conflict):
        image.driver.plan_open_root("box", idmap=other)


def test_file_capabilities_of_a_user_namespace_are_written_as_the_containers(
    image: Layers,
) -> None:
    """The kernel's revision 3, with the namespace's root in it, becomes plain revision 2."""
    image.container("box", "sha256:top")
    root = image.root("box", IDMAP)
    write(root, "tool", b"x")
    within = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 100000)
    os.setxattr(f"/proc/self/fd/{root}/tool", "security.capability", within)
    os.close(root)
    with tarfile.open(fileobj=io.BytesIO(image.diff("box"))) as tar:
        headers = tar.getmember("tool").pax_headers
    assert headers["SCHILY.xattr.security.capability"].encode("latin-1") == CAPABILITY


def test_a_plan_names_every_layer_and_does_nothing(image: Layers, tmp_path: Path) -> None:
    """Creating and opening can be described before anything is there."""
    create = image.driver.plan_create_container(ContainerLayer("box", "sha256:top"))
    mount = image.driver.plan_open_root("box", idmap=IDMAP)
    lines = [str(step) for step in create.describe() + mount.describe()]
    assert sum("sha256-base/diff" in line for line in lines) == 1
    assert sum("sha256-top/diff" in line for line in lines) == 1
    assert any("0:100000:65536" in line for line in lines)
    assert not list((tmp_path / "overlay" / "root" / "containers").iterdir())
    with pytest.raises(NotFound):
        Transaction().run(mount)
    Transaction().run(create)
    os.close(Transaction().run(image.driver.plan_open_root("box")))


def test_a_failed_transaction_takes_a_new_layer_back_but_no_old_one(image: Layers) -> None:
    """Undoing removes only what the plan itself made."""
    for existed in (False, True):
        if existed:
            image.container("box", "sha256:top")
        transaction = Transaction()
        transaction.run(image.driver.plan_create_container(ContainerLayer("box", "sha256:top")))
        transaction.rollback()
        assert list(image.driver.containers()) == (["box"] if existed else [])


def test_a_mount_goes_with_its_descriptor(image: Layers) -> None:
    """A plan that is undone closes the mount, unless it was handed over."""
    image.container("box", "sha256:top")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only
    plan = image.driver.plan_open_root("box")
    plan.operations[0].execute()
    plan.operations[0].undo()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


def test_usage_counts_the_containers_own(image: Layers, root: int) -> None:
    """Apparent bytes, hard links once, without the layers below."""
    write(root, "one", b"12345")
    os.link("one", "two", src_dir_fd=root, dst_dir_fd=root)
    usage = image.driver.usage("box")
    assert (usage.size, usage.inodes) == (5, 1)


def test_a_layer_that_hides_everything_below(image: Layers) -> None:
    """An opaque marker at the root leaves nothing of the layers below to see."""
    image.layer("clean", "sha256:top", entry(".wh..wh..opq"), entry("only"))
    image.reopen()
    descriptor = image.driver.open_layer("sha256:clean")
    assert names(descriptor) == ["only"]
    os.close(descriptor)
    with pytest.raises(Conflict):
        image.driver.remove_layer("sha256:top")


def test_an_empty_image(overlay: Layers) -> None:
    """A container without an image starts with an empty root, mode 0755."""
    overlay.container("box")
    root = overlay.root("box")
    write(root, "file", b"")
    assert names(root) == ["file"]
    assert stat.S_IMODE(os.stat(".", dir_fd=root).st_mode) == 0o755
    os.close(root)
    assert overlay.changes("box") == ["A /file"]


def test_probing_says_why_not(tmp_path: Path) -> None:
    """It works here, leaves nothing, and names the reason on a filesystem that cannot."""
    context = DriverContext(tmp_path, tmp_path)
    OverlayStorage.probe(context, OverlayConfig())
    assert not list(tmp_path.iterdir())
    layers = Layers(lambda: OverlayStorage(context, OverlayConfig()))
    layers.container("box")
    root = layers.root("box")
    os.mkdir("within", dir_fd=root)
    inner = Path(f"/proc/self/fd/{root}/within")
    try:
        with pytest.raises(DriverUnavailable, match="overlay") as caught:
            OverlayStorage.probe(DriverContext(inner, inner), OverlayConfig())
        assert caught.value.hint is not None
        assert names(root, "within") == []
    finally:
        os.close(root)
        layers.driver.close()


def test_a_volatile_layer_can_be_mounted_again(tmp_path: Path) -> None:
    """The configuration volatile = true leaves nothing that keeps a container from restarting."""
    context = DriverContext(tmp_path, tmp_path)
    layers = Layers(lambda: OverlayStorage(context, OverlayConfig(volatile=True)))
    layers.container("box")
    for number in range(2):
        root = layers.root("box")
        assert len(names(root)) == number
        write(root, f"file{number}", b"")
        os.close(root)
    layers.driver.close()


def test_creating_and_mounting_is_fast(image: Layers) -> None:
    """A container's root costs a few milliseconds at the most, even on a busy machine."""
    times = []
    for number in range(20):
        begin = time.perf_counter()
        image.container(f"box{number}", "sha256:top")
        root = image.root(f"box{number}")
        times.append(time.perf_counter() - begin)
        os.close(root)
    assert min(times) < 0.005
