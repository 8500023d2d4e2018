"""What the engine's services answer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.operations import Step
    from pannier.drivers.resources import ResourceUsage
    from pannier.engine.model import Container, Volume

__all__ = [
    "ContainerQuery",
    "ContainerUsage",
    "CreateResult",
    "DiskUsage",
    "Event",
    "InterfaceCounters",
    "LogLine",
    "NetworkPruneResult",
    "PathStat",
    "PlannedStep",
    "PruneResult",
    "Statistics",
    "SystemInfo",
    "TopResult",
    "VolumeUsage",
    "WaitCondition",
    "WaitResult",
]

WaitCondition = Literal["not-running", "next-exit", "removed"]


@dataclass(frozen=True, slots=True)
class CreateResult:
    """A container that was created, and what the user should know about it."""

    container: Container
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerQuery:
    """Which containers to list.

    :param all: the stopped ones, too.
    :param limit: so many of the last created, whatever their state; 0 for no limit.
    :param filters: ``docker ps``'s, each with the values of which one must match.
    """

    all: bool = False
    limit: int = 0
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How a container ended; *error* says why it could not be started, else it is empty."""

    exit_code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class TopResult:
    """A container's processes, as a table."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """What went through a network interface since it was created."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """One reading of what a container uses; for a stopped one all but *read_ns* is empty.

    :param read_ns: nanoseconds since the epoch.
    :param networks: by interface name.
    :param system_cpu_ns: the CPU time that the whole host has used.
    """

    read_ns: int
    usage: ResourceUsage
    networks: Mapping[str, InterfaceCounters] = field(default_factory=dict)
    online_cpus: int = 0
    system_cpu_ns: int = 0


@dataclass(frozen=True, slots=True)
class PathStat:
    """A file in a container.

    :param mode: as Go's ``os.FileMode`` counts: permissions in the low nine bits, type bits above.
    :param mtime_ns: nanoseconds since the epoch.
    :param link_target: empty for what is no symbolic link.
    """

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a container's output, with its newline where it has ended with one.

    :param time_ns: nanoseconds since the epoch.
    :param stream: 1 for stdout, 2 for stderr.
    """

    time_ns: int
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a prune removed: ids or names, and the bytes that this freed."""

    deleted: tuple[str, ...] = ()
    reclaimed: int = 0


@dataclass(frozen=True, slots=True)
class NetworkPruneResult:
    """The names of the networks that a prune removed."""

    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a start, and the driver (with its kind) that asks for it."""

    driver: str
    kind: str
    step: Step


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened.

    :param kind: ``container``, ``image``, ``network``, ``volume`` or ``daemon``.
    :param actor: the id (of images and volumes: or name) of what it happened to.
    :param time_ns: nanoseconds since the epoch; unique, as events are ordered by it.
    """

    kind: str
    action: str
    actor: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = 0


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """What a volume takes up in bytes, -1 if that is not known, and how many containers have it."""

    size: int
    references: int


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container takes up in bytes: its own layer, and all of its root."""

    container: Container
    size_rw: int
    size_root: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What containers, volumes and image layers take up; sizes in bytes."""

    layers_size: int
    containers: tuple[ContainerUsage, ...] = ()
    volumes: tuple[tuple[Volume, VolumeUsage], ...] = ()


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """The engine and its host.

    :param id: of this installation; kept in its root folder.
    :param resources: what the host's control groups can do, by
        :class:`~pannier.drivers.resources.ResourceCapability`'s values.
    :param security: ``name=seccomp,profile=builtin`` and the like.
    """

    id: str
    hostname: str
    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    storage_driver: str
    resource_driver: str
    cgroup_version: str
    default_runtime: str
    runtimes: tuple[str, ...]
    default_network: str
    networks: tuple[str, ...]
    default_log: str
    logs: tuple[str, ...]
    resources: frozenset[str]
    kernel: str
    operating_system: str
    architecture: str
    cpus: int
    memory: int
    root: str
    security: tuple[str, ...]
    ipv4_forwarding: bool
    listeners: int
    open_files: int
    threads: int
    warnings: tuple[str, ...] = ()
