"""What is known of a container's health, and how a probe's result changes it: Docker's rules."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = [
    "LOG_LENGTH",
    "Health",
    "HealthCheck",
    "HealthResult",
    "HealthStatus",
    "check_of",
    "command",
    "delay",
    "halted",
    "probe_id",
    "recorded",
    "started",
]

SECOND = 10**9
LOG_LENGTH = 5
_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How health is probed; times in nanoseconds, 0 for the default.

    :param test: ``("NONE",)``, ``("CMD", …)`` or ``("CMD-SHELL", line)``; empty inherits.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class HealthStatus(StrEnum):
    """How a container is, in Docker's words."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class HealthResult:
    """What one probe gave.

    :param start: nanoseconds since the epoch, as *end*.
    :param exit_code: 0 for healthy; -1 for a probe that could not be run or took too long.
    :param output: cut short where it is long.
    """

    start: int
    end: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Health:
    """A container's health.

    :param failing_streak: how many probes have failed since the last that did not.
    :param log: the last few results, oldest first.
    :param probes: how many probes have been run, ever; it names the next one.
    """

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()
    probes: int = 0


def check_of(check: HealthCheck | None) -> HealthCheck | None:
    """Return a check with its defaults filled in; None where nothing is to be probed."""
    if check is None or not check.test or check.test[0] == "NONE":
        return None
    return HealthCheck(
        test=check.test,
        interval=check.interval or 30 * SECOND,
        timeout=check.timeout or 30 * SECOND,
        start_period=check.start_period,
        start_interval=check.start_interval or 5 * SECOND,
        retries=check.retries or 3,
    )


def command(check: HealthCheck, shell: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a probe executes.

    :param shell: the image's; empty for the usual one.
    """
    rest = check.test[1:]
    return (*(shell or _SHELL), *rest) if check.test[0] == "CMD-SHELL" else rest


def probe_id(container: str, health: Health) -> str:
    """Return the id that the next probe runs under.

    It follows from what the database keeps, so that a daemon that was killed during a probe leaves
    its successor one to end, without a word written before every probe.
    """
    return hashlib.sha256(f"{container} probe {health.probes}".encode()).hexdigest()


def started(check: HealthCheck | None, before: Health | None) -> Health | None:
    """Return the health of a container that starts; None for one that is not probed."""
    if check_of(check) is None:
        return None
    return replace(before or Health(), status=HealthStatus.STARTING, failing_streak=0)


def halted(health: Health | None) -> Health | None:
    """Return the health of a container that is not probed any more: stopped, or paused."""
    return None if health is None else replace(health, status=HealthStatus.UNHEALTHY)


def recorded(health: Health, check: HealthCheck, result: HealthResult, began: int) -> Health:
    """Return the health after a probe.

    :param check: with its defaults filled in.
    :param began: when the container was started, in nanoseconds since the epoch.
    """
    log = (*health.log, result)[-LOG_LENGTH:]
    health = replace(health, log=log, probes=health.probes + 1)
    if result.exit_code == 0:
        return replace(health, status=HealthStatus.HEALTHY, failing_streak=0)
    if health.status is HealthStatus.STARTING and result.start - began < check.start_period:
        return health  # it may fail as often as it likes
    streak = health.failing_streak + 1
    unhealthy = streak >= check.retries
    status = HealthStatus.UNHEALTHY if unhealthy else health.status
    return replace(health, status=status, failing_streak=streak)


def delay(health: Health, check: HealthCheck, began: int, now: int) -> int:
    """Return how long after a probe (or the start) the next one comes, in nanoseconds."""
    starting = health.status is HealthStatus.STARTING and now - began < check.start_period
    return check.start_interval if starting else check.interval
