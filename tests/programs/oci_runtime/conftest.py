"""A bundle to run."""

from __future__ import annotations

import secrets
import shutil
from typing import TYPE_CHECKING

import pytest

from pannier.linux.cgroupfs import cgroup_mounts, remove_group
from support.bundles import Bundle, make_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root to be copied."""
    return make_root(tmp_path_factory.mktemp("oci") / "rootfs")


@pytest.fixture
def bundle(busybox_root: Path, tmp_path: Path) -> Iterator[Bundle]:
    """Give a bundle with a state and a control group of its own; what was made is deleted."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copytree(busybox_root, folder / "rootfs", symlinks=True)
    name = f"pannier-oci-{secrets.token_hex(4)}"
    bundle = Bundle(folder, tmp_path / "state", f"/{name}/box")
    try:
        yield bundle
    finally:
        bundle.clean()
        for mount in cgroup_mounts():
            remove_group(mount.path / name, 0.0)  # fails while something is left in it
