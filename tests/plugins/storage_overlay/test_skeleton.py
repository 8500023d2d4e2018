"""Places to mount on: there in every container, and in no change of it, on both storage drivers."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.storage import Skeleton
from pannier.linux.mounts import MS_BIND, mount, umount
from support.layers import Layers, entry, names, write

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

SKELETON = Skeleton(("/dev", "/etc"), ("/etc/hosts", "/etc/hostname", "/.dockerenv"))


@pytest.fixture(params=["overlay", "vfs"])
def layers(request: pytest.FixtureRequest) -> Layers:
    """Return each driver in turn."""
    found: Layers = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bound(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return another name of the folder that holds the store."""
    place = tmp_path_factory.mktemp("bound")
    mount(tmp_path, place, None, MS_BIND)
    yield place
    umount(place)


def test_the_places_are_there_and_no_change(layers: Layers) -> None:
    """What the image has stays as it is; what it lacks is made; a diff shows neither."""
    chain = layers.layer("a", None, entry("etc/"), entry("etc/hosts", b"mine"), entry("bin/"))
    layers.container("box", chain, skeleton=SKELETON)
    root = layers.root("box")
    assert names(root) == [".dockerenv", "bin", "dev", "etc"]
    assert names(root, "etc") == ["hostname", "hosts"]
    assert os.stat("etc/hosts", dir_fd=root).st_size == 4
    os.close(root)
    assert layers.changes("box") == []
    with tarfile.open(fileobj=BytesIO(layers.diff("box"))) as archive:
        assert archive.getnames() == []


def test_changes_beside_the_places_are_seen(layers: Layers) -> None:
    """A new file in such a folder, and one written over an empty place, are changes."""
    chain = layers.layer("a", None, entry("bin/"))
    layers.container("box", chain, skeleton=SKELETON)
    root = layers.root("box")
    write(root, "etc/added", b"x")
    write(root, "etc/hostname", b"written")
    os.close(root)
    changed = layers.changes("box")
    assert any(change.endswith(" /etc/added") for change in changed)
    assert any(change.endswith(" /etc/hostname") for change in changed)
    assert not any(change.endswith((" /etc/hosts", " /dev", " /.dockerenv")) for change in changed)


def test_a_link_in_the_way_is_left_alone(layers: Layers) -> None:
    """An image whose /etc is a link that leads out of nowhere can still be used."""
    link = entry("etc", type=tarfile.SYMTYPE, linkname="/nowhere/at/all")
    chain = layers.layer("a", None, link)
    layers.container("box", chain, skeleton=SKELETON)
    root = layers.root("box")
    assert os.readlink("etc", dir_fd=root) == "/nowhere/at/all"
    os.close(root)
    assert layers.changes("box") == []


def test_a_root_that_holds_the_store_can_be_used(
    overlay: Layers, tmp_path: Path, bound: Path
) -> None:
    """Overlayfs refuses layers inside one another: such a root goes without the places."""
    for number, rootfs in enumerate((Path("/"), tmp_path, bound)):
        name = f"box{number}"
        overlay.container(name, rootfs=rootfs, skeleton=SKELETON)
        root = overlay.root(name)
        write(root, "new", b"x")
        os.close(root)
        assert overlay.changes(name) == ["A /new"]


def test_they_are_found_again_when_the_driver_is_reopened(layers: Layers) -> None:
    """A restart of the daemon changes nothing, for disposable layers neither."""
    chain = layers.layer("a", None, entry("bin/"))
    layers.container("box", chain, skeleton=SKELETON, disposable=True)
    root = layers.root("box")
    write(root, "kept", b"x")
    os.close(root)
    layers.reopen()
    root = layers.root("box")
    assert names(root) == [".dockerenv", "bin", "dev", "etc", "kept"]
    os.close(root)
    assert [change for change in layers.changes("box") if "kept" not in change] == []
