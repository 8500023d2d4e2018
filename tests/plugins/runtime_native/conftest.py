"""A driver, a busybox root and a way to run things in it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier_runtime_native.driver import NativeRuntime
from support.native import BUSYBOX, Box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a busybox root, to be copied."""
    if not BUSYBOX.exists():
        pytest.fail(f"{BUSYBOX} is missing: apt-get install busybox-static")
    root = tmp_path_factory.mktemp("busybox")
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "home"):
        (root / name).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    listing = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    for name in listing.stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    (root / "tmp").chmod(0o1777)
    for path in (root, *root.iterdir()):
        if path.name != "tmp":
            path.chmod(0o755)
    return root


@pytest.fixture
def box(rootfs: Path, tmp_path: Path) -> Iterator[Box]:
    """Give a driver with a root of its own; whatever was made is deleted."""
    root = tmp_path / "rootfs"
    shutil.copytree(rootfs, root, symlinks=True)
    context = DriverContext(tmp_path / "root", tmp_path / "state")
    context.root.mkdir(mode=0o700)
    context.state.mkdir(mode=0o700)
    driver = NativeRuntime(context, NoConfig())
    box = Box(driver, context, root)
    try:
        yield box
    finally:
        for client in box.clients:
            client.close()
        for id in box.made:
            box.driver.delete(id)
        box.driver.close()
        assert list((context.state / "containers").iterdir()) == []
