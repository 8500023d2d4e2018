"""User namespaces to map mounts with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pannier.linux.mounts import MOUNT_ATTR_IDMAP, clone_tree, mount_setattr
from pannier.linux.userns import open_userns

pytestmark = pytest.mark.root


def test_a_mount_is_mapped(tmp_path: Path) -> None:
    """Several ranges are taken; ids outside of them show as the overflow id."""
    (tmp_path / "root").touch()
    (tmp_path / "user").touch()
    os.chown(tmp_path / "user", 1000, 1000)
    (tmp_path / "other").touch()
    os.chown(tmp_path / "other", 5000, 5000)
    ranges = ((0, 100000, 1), (1000, 200000, 10))
    userns = open_userns(ranges, ranges)
    mount = clone_tree(tmp_path)
    try:
        mount_setattr(mount, set=MOUNT_ATTR_IDMAP, userns_fd=userns)
        owners = {name: os.stat(name, dir_fd=mount).st_uid for name in ("root", "user", "other")}
    finally:
        os.close(mount)
        os.close(userns)
    assert owners == {"root": 100000, "user": 200000, "other": 65534}


def test_a_namespace_is_made_once_for_a_map() -> None:
    """A second call gives another descriptor of the same one, and no process is left."""
    ranges = ((0, 300000, 5),)
    before = _children()
    first, second = open_userns(ranges, ranges), open_userns(ranges, ranges)
    try:
        assert first != second
        assert os.fstat(first).st_ino == os.fstat(second).st_ino
    finally:
        os.close(first)
        os.close(second)
    assert _children() <= before


def _children() -> set[str]:
    """Return the processes that this one has made and not waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {child for path in lists for child in path.read_text().split()}


def test_a_map_that_the_kernel_refuses_is_an_error() -> None:
    """Overlapping ranges are no map."""
    ranges = ((0, 100000, 10), (5, 200000, 10))
    with pytest.raises(OSError, match="Invalid argument"):
        open_userns(ranges, ranges)
