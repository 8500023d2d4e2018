"""Places to mount on: there in every container, and in no change of it, on both storage drivers."""

from __future__ import annotations

import os
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


def test_one_that_no_container_has_goes_when_the_driver_is_opened(
    overlay: Layers, tmp_path: Path
) -> None:
    """Containers share it; it is kept for the next one to come, but not for ever."""
    kept = tmp_path / "overlay" / "root" / "skeletons"
    overlay.container("box", skeleton=SKELETON)
    overlay.reopen()
    assert len(list(kept.iterdir())) == 1
    overlay.driver.remove_container("box")
    assert len(list(kept.iterdir())) == 1
    overlay.reopen()
    assert list(kept.iterdir()) == []
