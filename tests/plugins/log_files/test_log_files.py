"""The drivers ``json-file`` and ``local``: their options, and what comes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier import config
from pannier.drivers.base import DriverContext
from pannier.drivers.log import LogCapability, LogForm
from pannier.errors import ConfigError, InvalidRequest
from pannier_log_files.driver import JsonFile, JsonFileConfig, Local, LocalConfig

CONTEXT = DriverContext(Path("/nowhere"), Path("/nowhere"))
JSON_FILE = JsonFile(CONTEXT, JsonFileConfig())
LOCAL = Local(CONTEXT, LocalConfig())


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        (JSON_FILE, {"bogus": "1"}, "unknown log opt 'bogus' for json-file log driver"),
        (LOCAL, {"labels": "a"}, "unknown log opt 'labels' for local log driver"),
        (JSON_FILE, {"max-size": "x"}, "max-size"),
        (JSON_FILE, {"max-size": "0"}, "max-size must be a positive number"),
        (JSON_FILE, {"max-size": "-5"}, "max-size"),
        (LOCAL, {"max-file": "0"}, "max-file"),
        (LOCAL, {"max-file": "-1"}, "max-file"),
        (LOCAL, {"max-file": "²"}, "max-file"),
        (LOCAL, {"compress": "maybe"}, "compress"),
        (LOCAL, {"compress": "true", "max-file": "1"}, "compress cannot be true when max-file is"),
        (JSON_FILE, {"compress": "true", "max-file": "2"}, "or max-size is not set"),
        (JSON_FILE, {"tag": "{{.Name}} {{.Nme}}"}, "uses {{.Nme}}"),
    ],
)
def test_wrong_settings_are_refused(
    driver: JsonFile | Local, options: dict[str, str], words: str
) -> None:
    """In Docker's words, with the setting's name."""
    with pytest.raises(InvalidRequest, match=words):
        driver.check(options)


@pytest.mark.parametrize(
    ("driver", "options", "size", "files"),
    [
        (JSON_FILE, {}, 0, 1),
        (JSON_FILE, {"max-size": "-1", "tag": "x", "env": "A"}, 0, 1),
        (JSON_FILE, {"tag": "{{.ContainerID}} {{json .}} {{.ID}}"}, 0, 1),
        (JSON_FILE, {"max-size": "10m", "max-file": "3", "compress": "true"}, 10 << 20, 3),
        (LOCAL, {}, 20 << 20, 5),
        (LOCAL, {"max-size": "1k"}, 1024, 5),
    ],
)
def test_what_is_written(
    driver: JsonFile | Local, options: dict[str, str], size: int, files: int
) -> None:
    """Each driver has Docker's defaults."""
    driver.check(options)
    assert driver.form(options) == LogForm(size, files)


def test_the_configuration_sets_other_defaults() -> None:
    """Options count before them."""
    table = config.parse('[log.json-file]\nmax_size = "5m"\nmax_file = 2')
    driver = JsonFile(CONTEXT, table.driver_config("log", "json-file", JsonFileConfig))
    assert driver.form({}) == LogForm(5 << 20, 2)
    assert driver.form({"max-size": "1m"}) == LogForm(1 << 20, 2)


def test_a_wrong_configuration_is_named() -> None:
    """With its table, before any container is made."""
    table = config.parse('[log.local]\nmax_size = "big"', Path("/etc/p.toml"))
    with pytest.raises(ConfigError, match=r"/etc/p.toml:1: \[log.local\]: invalid size .* 'big'"):
        table.driver_config("log", "local", LocalConfig)


def test_both_can_be_read() -> None:
    """They declare it, and nothing else; neither delivers."""
    assert JSON_FILE.capabilities == LOCAL.capabilities == {LogCapability.READ}
