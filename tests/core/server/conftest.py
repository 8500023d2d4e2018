from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.api_server import ApiServer, serving
from support.fake_engine import FakeEngine, as_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """Return an engine that runs nothing."""
    fake = FakeEngine()
    yield fake
    fake.close()


@pytest.fixture
def server(engine: FakeEngine, tmp_path: Path) -> Iterator[ApiServer]:
    """Serve the fake engine."""
    rows = [{"Kind": "storage", "Id": "overlay"}]
    calls = [{"Plugin": "storage_overlay", "Call": "open"}]
    with serving(
        as_engine(engine), tmp_path, drivers=lambda: list(rows), loads=lambda: list(calls)
    ) as running:
        yield running


@pytest.fixture
def running(server: ApiServer, engine: FakeEngine) -> str:
    """Return the id of a container that runs."""
    answer = server.post("/containers/create?name=web", {"Image": "busybox"})
    assert answer.status == 201
    assert server.post("/containers/web/start").status == 204
    container = engine.containers.get("web")
    return container.id
