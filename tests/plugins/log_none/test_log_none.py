"""The driver ``none``."""

from __future__ import annotations

from pathlib import Path

from pannier.drivers.base import DriverContext, NoConfig
from pannier_log_none.driver import NoneDriver


def test_nothing_is_kept() -> None:
    """Whatever its options say, as with Docker; and nothing can be read."""
    driver = NoneDriver(DriverContext(Path("/nowhere"), Path("/nowhere")), NoConfig())
    options = {"max-size": "1m", "bogus": "x"}
    driver.check(options)
    driver.form(options)
    assert driver.capabilities == frozenset()
