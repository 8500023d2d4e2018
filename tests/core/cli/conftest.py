"""The stand-in daemon, and the command line run in this process against it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pannier.cli.__main__ import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Outcome(NamedTuple):
    """What a command line did."""

    status: int
    out: str
    err: str


def _load() -> Any:
    name = "pannier_test_fake_daemon"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "client" / "fake_daemon.py"
        spec = importlib.util.spec_from_file_location(name, path)
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
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a stand-in daemon that the command line finds."""
    found = _load().FakeDaemon(tmp_path / "s")
    for name in ("DOCKER_HOST", "DOCKER_API_VERSION", "PANNIER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PANNIER_HOST", str(found.path))
    # An address that somebody named is asked for its version before a stream.
    found.on("GET", "/_ping", lambda one: one.answer(200, b"OK", {"Api-Version": "1.51"}))
    yield found
    found.close()


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs a command line in this process."""

    def call(*words: str) -> Outcome:
        status = run(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
        captured = capfd.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call
