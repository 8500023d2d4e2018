"""Which log driver a container has, and what of its options is the engine's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.drivers.log import LogCapability, LogSource
from pannier.drivers.runtime import LogSpec
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pannier.drivers.log import LogDriver
    from pannier.driverset import DriverSet
    from pannier.engine.model import Container, LogConfig

__all__ = [
    "complete_log",
    "delivers",
    "driver_of",
    "driver_options",
    "log_spec",
    "readable",
    "source_of",
]

_OWN = ("mode", "max-buffer-size")
"""Options of every driver. Output is never held back by its log, so that neither has an effect."""


def driver_of(drivers: DriverSet, log: LogConfig) -> LogDriver:
    """Return the driver that a container is logged with.

    :raises InvalidRequest: it is not installed, in Docker's words.
    """
    name = log.driver or drivers.default_log
    driver = drivers.logs.get(name)
    if driver is None:
        raise InvalidRequest(
            f"logger: no log driver named '{name}' is registered",
            hint=f"there are: {', '.join(drivers.logs)}",
        )
    return driver


def driver_options(log: LogConfig) -> Mapping[str, str]:
    """Return the options that are the driver's."""
    return {name: value for name, value in log.options.items() if name not in _OWN}


def source_of(container: Container, host: str) -> LogSource:
    """Return what of a container may be said with its lines.

    :param host: what the host is called.
    """
    return LogSource(
        id=container.id,
        name=container.name,
        image_id=container.image_id,
        image_name=container.image_name,
        args=container.args,
        environment=container.config.env,
        labels=container.config.labels,
        created=container.created,
        host=host,
    )


def complete_log(drivers: DriverSet, log: LogConfig) -> LogConfig:
    """Check a new container's log settings, and return them with the driver that they mean.

    :raises InvalidRequest: in Docker's words.
    """
    driver = driver_of(drivers, log)
    mode = log.options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidRequest(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in log.options and mode != "non-blocking":
        raise InvalidRequest(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        )
    driver.check(driver_options(log))
    return replace(log, driver=driver.id)


def log_spec(drivers: DriverSet, log: LogConfig, path: Path) -> LogSpec | None:
    """Return how the runtime is to write a log; None for not at all."""
    form = driver_of(drivers, log).form(driver_options(log))
    return None if form is None else LogSpec(path, form.max_size, form.max_files)


def readable(driver: LogDriver, log: LogConfig) -> bool:
    """Whether what was logged can be read again."""
    if LogCapability.READ not in driver.capabilities:
        return False
    form = driver.form(driver_options(log))
    return form is not None and form.readable


def delivers(drivers: DriverSet, log: LogConfig) -> bool:
    """Whether the container's driver is handed what is logged; not where it is not installed."""
    driver = drivers.logs.get(log.driver or drivers.default_log)
    return driver is not None and LogCapability.DELIVER in driver.capabilities
