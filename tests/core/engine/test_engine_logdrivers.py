"""The log drivers: which options they take, and what comes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier.engine.logdrivers import check_log, log_spec, readable
from pannier.engine.model import LogConfig
from pannier.errors import InvalidRequest

PATH = Path("/x/output.log")


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("syslog", {}, "no log driver named 'syslog' is registered"),
        ("json-file", {"bogus": "1"}, "unknown log opt 'bogus' for json-file log driver"),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for local log driver"),
        ("json-file", {"max-size": "x"}, "max-size"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-size": "-5"}, "max-size"),
        ("local", {"max-file": "0"}, "max-file"),
        ("local", {"max-file": "-1"}, "max-file"),
        ("local", {"max-file": "²"}, "max-file"),
        ("local", {"compress": "maybe"}, "compress"),
        ("json-file", {"mode": "bogus"}, "logging mode not supported: bogus"),
        ("json-file", {"max-buffer-size": "4m"}, "only supported with 'mode=non-blocking'"),
    ],
)
def test_wrong_settings_are_refused(driver: str, options: dict[str, str], words: str) -> None:
    """In Docker's words, with the setting's name."""
    with pytest.raises(InvalidRequest, match=words):
        check_log(LogConfig(driver, options))


@pytest.mark.parametrize(
    ("driver", "options", "size", "files"),
    [
        ("json-file", {}, 0, 1),
        ("json-file", {"max-size": "-1", "tag": "x", "env": "A"}, 0, 1),
        ("json-file", {"max-size": "10m", "max-file": "3", "compress": "true"}, 10 << 20, 3),
        ("json-file", {"mode": "non-blocking", "max-buffer-size": "4m"}, 0, 1),
        ("local", {}, 20 << 20, 5),
        ("local", {"max-size": "1k"}, 1024, 5),
    ],
)
def test_what_is_written(driver: str, options: dict[str, str], size: int, files: int) -> None:
    """Each driver has Docker's defaults."""
    log = LogConfig(driver, options)
    check_log(log)
    spec = log_spec(log, PATH)
    assert spec is not None
    assert (spec.path, spec.max_size, spec.max_files) == (PATH, size, files)
    assert readable(log)


def test_none_keeps_nothing() -> None:
    """Whatever its options say, as with Docker."""
    log = LogConfig("none", {"max-size": "1m", "bogus": "x"})
    check_log(log)
    assert log_spec(log, PATH) is None
    assert not readable(log)
