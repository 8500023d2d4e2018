"""What the builder's end-to-end tests share: a daemon with an image."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from support.daemon import Daemon, leftovers
from support.images import busybox_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of ``docker save`` with the image busybox:latest."""
    if shutil.which("busybox") is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    path: Path = tmp_path_factory.mktemp("images") / "busybox.tar"
    path.write_bytes(busybox_archive())
    return path


def _running(busybox: Path, **settings: str) -> Iterator[Daemon]:
    if os.geteuid() != 0:
        pytest.fail("these tests need root: run tests/run as root")
    daemon = Daemon(**settings)
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        yield daemon
    finally:
        daemon.close()
    assert leftovers(daemon) == []


@pytest.fixture(scope="session")
def daemon(busybox: Path) -> Iterator[Daemon]:
    """Return one daemon for all tests that leave it as they found it."""
    yield from _running(busybox)


@pytest.fixture
def own_daemon(busybox: Path) -> Iterator[Daemon]:
    """Return a daemon that the test may kill."""
    yield from _running(busybox)


@pytest.fixture(params=["overlay", "vfs"])
def storage_daemon(request: pytest.FixtureRequest, busybox: Path) -> Iterator[Daemon]:
    """Return a daemon on each storage driver in turn."""
    yield from _running(busybox, drivers=f'storage = "{request.param}"')
