"""The drivers together: closed whatever one of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.bad_drivers import NEVER, hangs, raises
from support.fakes import World, fake_drivers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("deed", [hangs, raises(SystemExit(1)), raises(KeyError("x"))])
def test_one_that_cannot_be_closed(
    deed: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the others are closed."""
    monkeypatch.setattr("pannier.driverset.LOADING", 0.1)
    NEVER.clear()
    drivers: Any = fake_drivers(World(tmp_path))
    closed: list[str] = []
    drivers.networks["bridge"].close = deed
    drivers.networks["none"].close = lambda: closed.append("none")
    drivers.storage.close = lambda: closed.append("storage")
    drivers.guarded().close()
    NEVER.set()
    assert closed == ["none", "storage"]
    assert "network driver 'bridge': could not be closed" in caplog.text
