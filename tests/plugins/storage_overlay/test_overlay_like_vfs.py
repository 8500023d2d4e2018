"""The two storage drivers show the same trees for the same layers."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pannier.drivers.base import NoConfig
from pannier.errors import ImageInvalid
from pannier_storage_overlay.driver import OverlayConfig, OverlayStorage
from pannier_storage_vfs.driver import VfsStorage
from support.layers import Layers, Member, entry, names, open_layers, snapshot, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.root

_NAMES = ("a", "b", "c")
_PATHS = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join)


@st.composite
def _members(draw: st.DrawFn) -> Member:
    path = draw(_PATHS)
    head, _, name = path.rpartition("/")
    targets = st.sampled_from(["a", "b", "/c", "../a", "nowhere", "a/b"])
    make: dict[str, Callable[[], Member]] = {
        "file": lambda: entry(path, draw(st.binary(max_size=4))),
        "folder": lambda: entry(path + "/", mode=draw(st.sampled_from([0o755, 0o700]))),
        "link": lambda: entry(path, type=tarfile.SYMTYPE, linkname=draw(targets)),
        "hard": lambda: entry(path, type=tarfile.LNKTYPE, linkname=draw(_PATHS)),
        "fifo": lambda: entry(path, type=tarfile.FIFOTYPE),
        "whiteout": lambda: entry(f"{head}/.wh.{name}".lstrip("/")),
        "opaque": lambda: entry(f"{path}/.wh..wh..opq"),
    }
    member = make[draw(st.sampled_from(sorted(make)))]()
    member.uid = draw(st.integers(0, 3))
    return member


_LAYERS = st.lists(st.lists(_members(), max_size=6), min_size=1, max_size=5)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers=_LAYERS)
def test_random_layers_give_one_tree(layers: Sequence[Sequence[Member]]) -> None:
    """Whatever a layer holds, in whatever order, both drivers make the same of it."""
    with (
        tempfile.TemporaryDirectory(prefix="pannier-test-") as base,
        open_layers(OverlayStorage, OverlayConfig(), Path(base, "overlay")) as overlay,
        open_layers(VfsStorage, NoConfig(), Path(base, "vfs")) as vfs,
    ):
        assert _trees(overlay, layers) == _trees(vfs, layers)


def _trees(driver: Layers, layers: Sequence[Sequence[Member]]) -> list[object]:
    """Return what is seen after each layer; one that is refused leaves the one before it."""
    parent = None
    seen: list[object] = []
    for number, members in enumerate(layers):
        try:
            parent = driver.layer(f"{number}", parent, *members)
        except ImageInvalid:
            seen.append("refused")
            continue
        root = driver.driver.open_layer(parent)
        try:
            seen.append(_comparable(snapshot(root)))
        finally:
            os.close(root)
    return seen


def _comparable(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Leave out the times of folders that no layer has an entry for: they are made now."""
    stamp = 1_600_000_000 * 10**9
    return {
        path: (*facts[:4], facts[4] if facts[4] == stamp else "now", *facts[5:])
        for path, facts in tree.items()
    }


def test_both_list_and_write_the_same_changes(overlay: Layers, vfs: Layers) -> None:
    """A container's changes, and the layer made of them, do not depend on the driver."""
    results = []
    for layers in (overlay, vfs):
        layers.layer(
            "base",
            None,
            entry("etc/"),
            entry("etc/a", b"a"),
            entry("etc/b", b"b"),
            entry("dir/"),
            entry("dir/x", b"x"),
            entry("dir/sub/"),
            entry("dir/sub/y", b"y"),
            entry("same/"),
            entry("kind", b"a file"),
        )
        layers.container("box", "sha256:base")
        root = layers.root("box")
        _change(root)
        os.close(root)
        diff = layers.diff("box")
        with tarfile.open(fileobj=io.BytesIO(diff)) as tar:
            members = [(m.name, m.type, m.mode, m.size, m.linkname) for m in tar]
        usage = layers.driver.usage("box")
        layers.driver.create_layer("sha256:commit", "sha256:base", io.BytesIO(diff))
        committed = layers.driver.open_layer("sha256:commit")
        tree = {path: facts[:4] + facts[5:] for path, facts in snapshot(committed).items()}
        os.close(committed)
        results.append((layers.changes("box"), members, usage.size, tree))
    assert results[0] == results[1]


def _change(root: int) -> None:
    write(root, "etc/a", b"changed")
    os.unlink("etc/b", dir_fd=root)
    for path in ("dir/sub/y", "dir/x"):
        os.unlink(path, dir_fd=root)
    for path in ("dir/sub", "dir"):
        os.rmdir(path, dir_fd=root)
    os.mkdir("dir", dir_fd=root)
    write(root, "dir/x", b"new")
    os.unlink("kind", dir_fd=root)
    os.mkdir("kind", dir_fd=root)
    os.mkfifo("fifo", dir_fd=root)
    os.symlink("etc/a", "link", dir_fd=root)
    os.link("etc/a", "hard", src_dir_fd=root, dst_dir_fd=root)
    assert "link" in names(root)
