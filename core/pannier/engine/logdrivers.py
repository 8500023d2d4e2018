"""The log drivers' names and options: what each accepts, and what it has the runtime write.

``json-file`` and ``local`` are both Pannier's own form, each with Docker's options and defaults;
``none`` keeps nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.drivers.runtime import LogSpec
from pannier.engine.sizes import parse_size
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.engine.model import LogConfig

__all__ = ["LOG_DRIVERS", "check_log", "log_spec", "readable"]

_SIZES = ("max-size", "max-file", "compress")
_TEXTS = ("labels", "labels-regex", "env", "env-regex", "tag")
_COMMON = ("mode", "max-buffer-size")

LOG_DRIVERS: dict[str, tuple[str, ...]] = {
    "json-file": (*_SIZES, *_TEXTS),
    "local": _SIZES,
    "none": (),
}
"""Each driver's options."""

_DEFAULTS = {"local": {"max-size": "20m", "max-file": "5"}}


def readable(log: LogConfig) -> bool:
    """Whether what was logged can be read again."""
    return log.driver != "none"


def check_log(log: LogConfig) -> None:
    """Check a container's log settings.

    :raises InvalidRequest: in Docker's words.
    """
    known = LOG_DRIVERS.get(log.driver)
    if known is None:
        raise InvalidRequest(
            f"logger: no log driver named '{log.driver}' is registered",
            hint=f"there are: {', '.join(LOG_DRIVERS)}",
        )
    if log.driver == "none":
        return  # whatever its options say, nothing comes of it
    options = log.options
    for name in options:
        if name not in known and name not in _COMMON:
            raise InvalidRequest(
                f"unknown log opt '{name}' for {log.driver} log driver",
                hint=f"there are: {', '.join((*known, *_COMMON))}",
            )
    if options.get("mode", "") not in ("", "blocking", "non-blocking"):
        raise InvalidRequest(f"logger: logging mode not supported: {options['mode']}")
    if "max-buffer-size" in options and options.get("mode") != "non-blocking":
        raise InvalidRequest(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        )
    _check_rotation(options.get("max-size", ""), options.get("max-file", "1"))
    if options.get("compress", "true").lower() not in ("1", "t", "true", "0", "f", "false"):
        raise InvalidRequest(f"invalid value for log opt compress: {options['compress']!r}")


def _check_rotation(size: str, files: str) -> None:
    if size not in ("", "-1") and parse_size(size, "log-opt max-size") == 0:
        raise InvalidRequest("max-size must be a positive number")
    if not (files.isascii() and files.isdecimal() and int(files) > 0):
        raise InvalidRequest(f"invalid value for log opt max-file: {files!r}: at least 1 is kept")


def log_spec(log: LogConfig, path: Path) -> LogSpec | None:
    """Return how the runtime is to write a log; None for not at all."""
    if not readable(log):
        return None
    options = {**_DEFAULTS.get(log.driver, {}), **log.options}
    size = options.get("max-size", "")
    return LogSpec(
        path,
        max_size=0 if size in ("", "-1") else parse_size(size, "log-opt max-size"),
        max_files=int(options.get("max-file", "1")),
    )
