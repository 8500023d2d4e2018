"""Which log driver a container has: the engine's own options, the default, what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier.drivers.runtime import LogSpec
from pannier.engine.logdrivers import complete_log, delivers, driver_of, log_spec, readable
from pannier.engine.model import LogConfig
from pannier.errors import InvalidRequest
from support.fakes import World, fake_drivers

PATH = Path("/x/output.log")


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("stone", {}, "logger: no log driver named 'stone' is registered"),
        ("files", {"bogus": "1"}, "unknown log opt for files log driver"),
        ("", {"bogus": "1"}, "unknown log opt for files log driver"),
        ("files", {"mode": "bogus"}, "logging mode not supported: bogus"),
        ("files", {"max-buffer-size": "4m"}, "only supported with 'mode=non-blocking'"),
    ],
)
def test_wrong_settings_are_refused(
    driver: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    """By the engine, where an option is its own, else by the driver."""
    with pytest.raises(InvalidRequest, match=words):
        complete_log(fake_drivers(World(tmp_path)), LogConfig(driver, options))


def test_no_driver_means_the_configured_one(tmp_path: Path) -> None:
    """Its name is put in; the engine's own options stay, and are not the driver's."""
    log = LogConfig("", {"mode": "non-blocking", "max-buffer-size": "4m", "colour": "red"})
    completed = complete_log(fake_drivers(World(tmp_path)), log)
    assert completed == LogConfig("files", log.options)


def test_what_is_written_and_read(tmp_path: Path) -> None:
    """As the driver's form and capabilities say."""
    drivers = fake_drivers(World(tmp_path))
    red = LogConfig("files", {"colour": "red"})
    assert log_spec(drivers, red, PATH) == LogSpec(PATH, 1 << 20, 2)
    assert (readable(driver_of(drivers, red), red), delivers(drivers, red)) == (True, False)
    assert log_spec(drivers, LogConfig("none"), PATH) is None
    assert not readable(driver_of(drivers, LogConfig("none")), LogConfig("none"))
    far = LogConfig("far")
    assert log_spec(drivers, far, PATH) == LogSpec(PATH, 0, 2)
    assert (readable(driver_of(drivers, far), far), delivers(drivers, far)) == (False, True)


def test_a_driver_that_has_gone(tmp_path: Path) -> None:
    """Its containers cannot be read, and say why; nothing else fails."""
    drivers = fake_drivers(World(tmp_path))
    assert not delivers(drivers, LogConfig("stone"))
    with pytest.raises(InvalidRequest, match="no log driver named 'stone'"):
        driver_of(drivers, LogConfig("stone"))
