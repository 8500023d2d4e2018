"""The types of an OCI runtime-spec ``config.json``, as far as Pannier reads or writes it.

Field names are the specification's own (https://github.com/opencontainers/runtime-spec, config.md
and config-linux.md), so that a spec can be handed to an external runtime as it is.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = [
    "BlockIo",
    "BlockRate",
    "BlockWeight",
    "Capabilities",
    "ConsoleSize",
    "CpuAffinity",
    "Device",
    "DeviceCgroup",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IdMapEntry",
    "IoPriority",
    "Linux",
    "Mount",
    "Namespace",
    "Personality",
    "Process",
    "Resources",
    "Rlimit",
    "Root",
    "Scheduler",
    "Seccomp",
    "SeccompArg",
    "SeccompRule",
    "Spec",
    "TimeOffset",
    "User",
]


class ConsoleSize(TypedDict):
    """A terminal's size in characters."""

    height: int
    width: int


class User(TypedDict):
    """Who a process runs as, in the container's ids."""

    uid: int
    gid: int
    umask: NotRequired[int]
    additionalGids: NotRequired[list[int]]


class Capabilities(TypedDict, total=False):
    """The five sets of capabilities(7), as names with their ``CAP_``."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """A resource limit: ``RLIMIT_NOFILE`` and the like."""

    type: str
    soft: int
    hard: int


class Scheduler(TypedDict):
    """How the kernel schedules a process: sched_setattr(2); times in nanoseconds."""

    policy: str
    nice: NotRequired[int]
    priority: NotRequired[int]
    flags: NotRequired[list[str]]
    runtime: NotRequired[int]
    deadline: NotRequired[int]
    period: NotRequired[int]


# "class" is a word of Python's own.
IoPriority = TypedDict("IoPriority", {"class": str, "priority": NotRequired[int]})
"""The class and priority of a process's input and output: ioprio_set(2)."""


class CpuAffinity(TypedDict, total=False):
    """The CPUs that an added process begins on, and those that it goes on on, as ``0-3,7``."""

    initial: str
    final: str


class Process(TypedDict):
    """A process to execute."""

    args: list[str]
    cwd: str
    user: User
    env: NotRequired[list[str]]
    terminal: NotRequired[bool]
    consoleSize: NotRequired[ConsoleSize]
    capabilities: NotRequired[Capabilities]
    rlimits: NotRequired[list[Rlimit]]
    noNewPrivileges: NotRequired[bool]
    oomScoreAdj: NotRequired[int]
    apparmorProfile: NotRequired[str]
    selinuxLabel: NotRequired[str]
    scheduler: NotRequired[Scheduler]
    ioPriority: NotRequired[IoPriority]
    execCPUAffinity: NotRequired[CpuAffinity]


class Root(TypedDict):
    """The root filesystem."""

    path: str
    readonly: NotRequired[bool]


class IdMapEntry(TypedDict):
    """A range of a uid or gid map."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict):
    """A mount; *options* as in mount(8), plus ``rbind``, ``rprivate``, ``tmpcopyup``."""

    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[IdMapEntry]]
    gidMappings: NotRequired[list[IdMapEntry]]


class Namespace(TypedDict):
    """A namespace to create, or with a *path* to join."""

    type: str
    path: NotRequired[str]


class Device(TypedDict):
    """A device node to create."""

    path: str
    type: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class DeviceCgroup(TypedDict):
    """A rule of the device control group."""

    allow: bool
    type: NotRequired[str]
    major: NotRequired[int]
    minor: NotRequired[int]
    access: NotRequired[str]


class BlockRate(TypedDict):
    """How much may be read from or written to a device in a second."""

    major: int
    minor: int
    rate: int


class BlockWeight(TypedDict):
    """A device's share of block input and output."""

    major: int
    minor: int
    weight: NotRequired[int]
    leafWeight: NotRequired[int]


class BlockIo(TypedDict, total=False):
    """Limits of block input and output."""

    weight: int
    leafWeight: int
    weightDevice: list[BlockWeight]
    throttleReadBpsDevice: list[BlockRate]
    throttleWriteBpsDevice: list[BlockRate]
    throttleReadIOPSDevice: list[BlockRate]
    throttleWriteIOPSDevice: list[BlockRate]


class HugepageLimit(TypedDict):
    """How many bytes of pages of one size may be used."""

    pageSize: str
    limit: int


class Resources(TypedDict, total=False):
    """Limits, for a runtime that manages control groups itself; see config-linux.md."""

    devices: list[DeviceCgroup]
    memory: dict[str, int | bool]
    cpu: dict[str, int | str]
    pids: dict[str, int]
    blockIO: BlockIo
    hugepageLimits: list[HugepageLimit]
    unified: dict[str, str]


class SeccompArg(TypedDict):
    """A condition on a system call's argument."""

    index: int
    value: int
    op: str
    valueTwo: NotRequired[int]


class SeccompRule(TypedDict):
    """What happens on some system calls."""

    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[SeccompArg]]


class Seccomp(TypedDict):
    """A seccomp filter."""

    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    architectures: NotRequired[list[str]]
    flags: NotRequired[list[str]]
    syscalls: NotRequired[list[SeccompRule]]


class Personality(TypedDict):
    """The execution domain: personality(2)."""

    domain: str
    flags: NotRequired[list[str]]


class TimeOffset(TypedDict, total=False):
    """How far a clock of a time namespace is from the host's."""

    secs: int
    nanosecs: int


class Linux(TypedDict, total=False):
    """What is particular to Linux."""

    uidMappings: list[IdMapEntry]
    gidMappings: list[IdMapEntry]
    sysctl: dict[str, str]
    resources: Resources
    cgroupsPath: str
    namespaces: list[Namespace]
    devices: list[Device]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    personality: Personality
    timeOffsets: dict[str, TimeOffset]


class Hook(TypedDict):
    """A program to run at a point of the life cycle."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Hooks(TypedDict, total=False):
    """The programs to run at each point of the life cycle."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Spec(TypedDict):
    """The configuration of a container."""

    ociVersion: str
    process: Process
    root: Root
    linux: Linux
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    mounts: NotRequired[list[Mount]]
    hooks: NotRequired[Hooks]
    annotations: NotRequired[dict[str, str]]
