"""The stand-in daemon as a fixture."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.client import Address, Client

if TYPE_CHECKING:
    from collections.abc import Iterator


def _load() -> Any:
    name = "pannier_test_fake_daemon"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, Path(__file__).parent / "fake_daemon.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def frame() -> Any:
    """Return the function that makes a frame."""
    return _load().frame


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Any]:
    """Yield a stand-in daemon."""
    found = _load().FakeDaemon(tmp_path / "s")
    yield found
    found.close()


@pytest.fixture
def client(daemon: Any) -> Iterator[Client]:
    """Yield a client of the stand-in, which it takes for Pannier's own."""
    found = Client(Address(path=str(daemon.path), explicit=False))
    yield found
    found.close()
