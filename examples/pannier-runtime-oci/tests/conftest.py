"""What the tests with a real daemon share."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from pannier.testing import make_host_root

from oci_engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def runc() -> None:
    """Have the external runtime."""
    if shutil.which("runc") is None:
        pytest.skip("runc is missing: apt-get install runc")


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a container's root, of programs of this host."""
    folder = tmp_path_factory.mktemp("rootfs")
    make_host_root(folder)
    return folder


@pytest.fixture(scope="module")
def engine(runc: None) -> Iterator[Engine]:
    """Return a daemon that runs; nothing of it may be there in the end."""
    del runc
    engine = Engine()
    try:
        engine.start()
        yield engine
    finally:
        engine.close()
    assert engine.leftovers() == []
