"""The overlay driver on the real kernel."""

from __future__ import annotations

import io
import os
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
    InvalidRequest,
    NotFound,
    UnsupportedOperation,
)
from pannier.linux.mounts import mount, umount
from pannier.matrix.machine import GUEST
from pannier_storage_overlay import union
from pannier_storage_overlay.driver import OverlayConfig, OverlayStorage
from support.layers import Layers, archive, entry, names, write

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_a_folder_that_was_only_copied_up_is_no_change(image: Layers, root: int) -> None:
    """Opening a file for writing copies its folders up; without a write only it counts."""
    os.chmod("usr/lib", 0o755, dir_fd=root)
    assert image.changes("box") == []


def test_deleting_what_was_added_leaves_no_deletion(image: Layers, root: int) -> None:
    """A file that only the container ever had is gone without a trace."""
    write(root, "usr/temporary", b"")
    os.unlink("usr/temporary", dir_fd=root)
    assert image.changes("box") == ["C /usr"]  # its modification time


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


def test_what_is_no_name_is_refused(overlay: Layers) -> None:
    """A chain id or key becomes a folder's name, and can be nothing but one."""
    for name in ("../../etc", "", "sha256:../x"):
        with pytest.raises(InvalidRequest):
            overlay.driver.create_layer(name, None, archive())
    with pytest.raises(InvalidRequest):
        overlay.driver.plan_create_container(ContainerLayer("../x"))


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


@pytest.mark.skipif(
    GUEST in os.environ, reason="an emulated machine's times say nothing: run it on a host"
)
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
