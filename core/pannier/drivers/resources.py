"""The resource-control contract: one control group for each container.

A group is named by the container's id below a parent (``--cgroup-parent``). It works on cgroup v1,
v2 and hybrid hosts alike. A limit that the host cannot enforce is a clear error, never silence.
Sources: the kernel's ``Documentation/admin-guide/cgroup-v1`` and ``cgroup-v2.rst``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping  # noqa: TC003 - the database's codec reads the value types
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers.operations import Plan

__all__ = [
    "BlockUsage",
    "DeviceLimit",
    "DeviceRule",
    "GroupRequest",
    "Limits",
    "OomWatch",
    "Pressure",
    "ResourceCapability",
    "ResourceDriver",
    "ResourceEvents",
    "ResourceUsage",
]


class ResourceCapability(StrEnum):
    """What a resource driver may declare, where the host has the controller for it.

    Which controllers a host has is only known there: :meth:`ResourceDriver.available`.
    """

    MEMORY = "memory"
    SWAP = "swap"
    CPU = "cpu"
    CPUSET = "cpuset"
    PIDS = "pids"
    BLOCK_WEIGHT = "block-weight"
    BLOCK_THROTTLE = "block-throttle"
    HUGETLB = "hugetlb"
    DEVICES = "devices"
    FREEZE = "freeze"
    PRESSURE = "pressure"


@dataclass(frozen=True, slots=True)
class DeviceLimit:
    """A limit for one block device; *value* in bytes/s, operations/s, or a weight."""

    major: int
    minor: int
    value: int


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """Which device nodes may be used, in the order of application; the last match decides.

    :param type: ``a`` (all), ``c`` or ``b``.
    :param major: None for any.
    :param minor: None for any.
    :param access: some of ``rwm``.
    """

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use; None leaves a thing as it is (at creation: without a limit).

    :param memory: bytes; -1 for no limit.
    :param memory_reservation: bytes; the soft limit.
    :param memory_swap: bytes of memory *and* swap together, as Docker counts; -1 for no limit.
    :param swappiness: 0 to 100; cgroup v1 only.
    :param oom_kill_disable: cgroup v1 only.
    :param cpu_quota: microseconds in each *cpu_period*; -1 for no limit.
    :param cpu_period: microseconds.
    :param cpu_shares: cgroup v1's 2 to 262144; converted to a weight on v2.
    :param cpuset_cpus: a list such as ``0-2,4``.
    :param pids: number of processes and threads; -1 for no limit.
    :param block_weight: 10 to 1000.
    :param hugetlb: bytes for each page size, as ``{"2MB": 4194304}``.
    """

    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    swappiness: int | None = None
    oom_kill_disable: bool | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpu_realtime_period: int | None = None
    cpu_realtime_runtime: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids: int | None = None
    block_weight: int | None = None
    block_weight_device: tuple[DeviceLimit, ...] = ()
    read_bps: tuple[DeviceLimit, ...] = ()
    write_bps: tuple[DeviceLimit, ...] = ()
    read_iops: tuple[DeviceLimit, ...] = ()
    write_iops: tuple[DeviceLimit, ...] = ()
    hugetlb: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """A group to create.

    :param id: the container's id.
    :param parent: the group to create it in, made where it is not there; empty for the driver's
        configured parent. It is not removed with the last group in it.
    :param devices: rules in order; empty for no restriction.
    """

    id: str
    parent: str = ""
    limits: Limits = field(default_factory=Limits)
    devices: tuple[DeviceRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Pressure:
    """Pressure stall information: the *some* line's 10 s average in percent and total in µs."""

    average10: float
    total: int


@dataclass(frozen=True, slots=True)
class BlockUsage:
    """What was read and written on one block device."""

    major: int
    minor: int
    read_bytes: int
    write_bytes: int
    read_operations: int
    write_operations: int


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a group has used; 0 or empty where the host does not count it.

    :param cpu_total: nanoseconds; likewise *cpu_user*, *cpu_system*, *throttled_time*.
    :param cpu_per_core: nanoseconds for each core.
    :param memory: bytes now, the page cache included.
    :param memory_peak: bytes, the highest so far.
    :param memory_limit: bytes; 0 for none.
    :param memory_stat: the kernel's own counters by name (memory.stat).
    """

    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_per_core: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    memory: int = 0
    memory_peak: int = 0
    memory_limit: int = 0
    memory_failures: int = 0
    memory_stat: Mapping[str, int] = field(default_factory=dict)
    pids: int = 0
    pids_limit: int = 0
    blocks: tuple[BlockUsage, ...] = ()
    pressure: Mapping[str, Pressure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceEvents:
    """What has happened in a group since it was created.

    :param oom: times that memory ran out.
    :param oom_kill: processes that the kernel killed for it.
    """

    oom: int = 0
    oom_kill: int = 0


class OomWatch(ABC):
    """Tells that a group's memory runs out, made for an event loop: poll it, then read it."""

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that polls readable when :meth:`read` may have something to say."""

    @abstractmethod
    def read(self) -> int:
        """Return how often it happened since the last call, 0 for not at all; never blocks.

        A group that has gone says 0, and may leave the descriptor readable.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop watching. Idempotent."""


class ResourceDriver(Driver):
    """Limits and measures containers."""

    kind: ClassVar[str] = "resources"
    capabilities: ClassVar[AbstractSet[ResourceCapability]] = frozenset()

    version: ClassVar[str]
    """``1`` or ``2``: what ``/info`` reports as CgroupVersion."""

    @abstractmethod
    def available(self) -> AbstractSet[ResourceCapability]:
        """Return those capabilities that this host has the controllers for."""

    @abstractmethod
    def plan_create(self, request: GroupRequest) -> Plan[None]:
        """Create a group with its limits. Idempotent.

        :raises UnsupportedOperation: a limit that this host cannot enforce.
        :raises InvalidRequest: a value that the kernel refuses.
        """

    @abstractmethod
    def path(self, id: str, parent: str = "") -> str:
        """Return the group's path, for the OCI specification's ``linux.cgroupsPath``."""

    @abstractmethod
    def procs(self, id: str, parent: str = "") -> tuple[Path, ...]:
        """Return the files that a process writes ``0`` to, to put itself into the group."""

    @abstractmethod
    def mount_points(self) -> Mapping[str, Path]:
        """Return where the hierarchies are mounted, by controller list (v2: ``""``).

        The runtime mounts the same ones inside a container, below /sys/fs/cgroup.
        """

    @abstractmethod
    def update(self, id: str, limits: Limits, parent: str = "") -> None:
        """Change the limits of a group in use; all of them or none.

        :raises NotFound: there is no such group.
        """

    @abstractmethod
    def pids(self, id: str, parent: str = "") -> list[int]:
        """List the processes in the group and below; empty where there is no such group."""

    @abstractmethod
    def freeze(self, id: str, parent: str = "") -> None:
        """Stop every process of the group, and return once they have stopped."""

    @abstractmethod
    def thaw(self, id: str, parent: str = "") -> None:
        """Let a frozen group go on."""

    @abstractmethod
    def kill(self, id: str, parent: str = "") -> None:
        """Kill every process of the group, frozen or forking ones included. Idempotent."""

    @abstractmethod
    def usage(self, id: str, parent: str = "") -> ResourceUsage:
        """Measure a group.

        :raises NotFound: there is no such group.
        """

    @abstractmethod
    def events(self, id: str, parent: str = "") -> ResourceEvents:
        """Return what has happened in a group; zeros where there is no such group."""

    def oom_watch(self, id: str, parent: str = "") -> OomWatch | None:  # noqa: ARG002 - for drivers that can
        """Watch for a group's memory running out; None where that is not offered.

        Without it, it is known when the container has ended (:meth:`events`).

        :raises NotFound: there is no such group.
        """
        return None

    @abstractmethod
    def delete(self, id: str, parent: str = "") -> None:
        """Kill what is left in a group and remove it with everything below. Idempotent."""

    @abstractmethod
    def groups(self) -> Iterator[str]:
        """Yield the name of every group directly below the configured parent, whoever made it.

        The id of a container whose group is there is among them. Others may be an administrator's,
        other containers' parents, or those of another engine: being listed makes no group ours.
        """
