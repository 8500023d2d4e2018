"""From what was asked, and an image, to what a container is: Docker's merging rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.drivers.resources import ResourceCapability
from pannier.engine.model import ContainerConfig, HealthCheck
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.resources import Limits, ResourceDriver

__all__ = ["NO_SWAP_LIMIT", "command_line", "complete_limits", "enforceable_swap", "merge"]

NO_SWAP_LIMIT = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory "
    "limited without swap."
)
"""Docker's warning where memory is limited and swap cannot be."""

_HEALTH_FIELDS = ("interval", "timeout", "start_period", "start_interval", "retries")


def merge(asked: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """Complete what was asked with what the image says; what was asked wins.

    An entrypoint that was asked for resets the image's cmd; an image's cmd is only taken together
    with its entrypoint, or where neither was asked for.
    """
    cmd, entrypoint = asked.cmd, asked.entrypoint
    if not entrypoint:
        if not cmd:
            cmd = image.cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
    if entrypoint == ("",):
        entrypoint = None
    return replace(
        asked,
        cmd=cmd,
        entrypoint=entrypoint,
        user=asked.user or image.user,
        env=_merged_env(asked.env, image.env),
        working_dir=asked.working_dir or image.working_dir,
        volumes=_union(asked.volumes, image.volumes),
        exposed_ports=_union(asked.exposed_ports, image.exposed_ports),
        labels={**image.labels, **asked.labels},
        stop_signal=asked.stop_signal or image.stop_signal,
        stop_timeout=image.stop_timeout if asked.stop_timeout is None else asked.stop_timeout,
        health_check=_merged_health(asked.health_check, image.health_check),
        shell=asked.shell or image.shell,
        on_build=asked.on_build or image.on_build,
    )


def command_line(config: ContainerConfig) -> tuple[str, ...]:
    """Return what a merged configuration executes.

    :raises InvalidRequest: there is nothing to execute.
    """
    args = (*(config.entrypoint or ()), *(config.cmd or ()))
    if not args:
        raise InvalidRequest(
            "no command specified", hint="the image has none: name one behind the image"
        )
    return args


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _merged_env(asked: tuple[str, ...], image: tuple[str, ...]) -> tuple[str, ...]:
    if not asked:
        return image
    known = {entry.partition("=")[0] for entry in asked}
    return (*asked, *(entry for entry in image if entry.partition("=")[0] not in known))


def _merged_health(asked: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    if asked is None or image is None:
        return image if asked is None else asked
    times = {name: getattr(asked, name) or getattr(image, name) for name in _HEALTH_FIELDS}
    return HealthCheck(test=asked.test or image.test, **times)


def complete_limits(limits: Limits) -> Limits:
    """Fill in what follows from other limits: as much swap as memory, unless it was said.

    Nonsense is refused in Docker's words.

    :raises InvalidRequest: limits contradict one another.
    """
    memory, swap = limits.memory or 0, limits.memory_swap or 0
    if 0 < memory < 6 << 20:
        raise InvalidRequest("Minimum memory limit allowed is 6MB")
    if memory <= 0 < swap:
        raise InvalidRequest(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise InvalidRequest(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    reservation = limits.memory_reservation or 0
    if 0 < memory < reservation:
        raise InvalidRequest(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if limits.swappiness is not None and not -1 <= limits.swappiness <= 100:
        raise InvalidRequest(
            f"Invalid value: {limits.swappiness}, valid memory swappiness range is 0-100"
        )
    if limits.block_weight and not 10 <= limits.block_weight <= 1000:
        raise InvalidRequest("Range of blkio weight is from 10 to 1000")
    period, quota = limits.cpu_period or 0, limits.cpu_quota or 0
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidRequest(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < quota < 1000:
        raise InvalidRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if memory > 0 and not swap:
        limits = replace(limits, memory_swap=memory * 2)
    return limits


def enforceable_swap(limits: Limits, asked: Limits, resources: ResourceDriver) -> Limits:
    """Return completed *limits* without one of swap that nobody asked for and the host has not.

    One that was asked for stays, for the driver to refuse.

    :param asked: the limits before they were completed.
    """
    derived = (limits.memory_swap or 0) > 0 and not asked.memory_swap
    if not derived or ResourceCapability.SWAP in resources.available():
        return limits
    return replace(limits, memory_swap=-1)
