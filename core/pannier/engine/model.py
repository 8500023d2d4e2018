"""What a container is: the engine's value types.

They follow the Docker Engine API's meanings under Python names; the server translates its JSON to
them and back, the database keeps them (see :mod:`pannier.engine.codec`). All are frozen: a change
makes a new value, stored in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pannier.drivers.base import IdMap
from pannier.drivers.network import Endpoint, PortBinding, PortRequest, Subnet
from pannier.drivers.resources import DeviceRule, Limits
from pannier.engine.healthstate import Health, HealthCheck

__all__ = [
    "Container",
    "ContainerConfig",
    "ContainerState",
    "CreateOptions",
    "DeviceMapping",
    "EndpointOptions",
    "HealthCheck",
    "HostOptions",
    "LogConfig",
    "MountKind",
    "MountPoint",
    "MountSpec",
    "Network",
    "RestartPolicy",
    "Status",
    "Ulimit",
    "Volume",
]


class Status(StrEnum):
    """A container's state, in Docker's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class MountKind(StrEnum):
    """What is mounted."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What travels with an image: the API's ``Config``.

    :param cmd: None inherits the image's, as does *entrypoint*.
    :param exposed_ports: ``80/tcp``.
    :param stop_timeout: seconds; None for the engine's default of 10.
    """

    image: str = ""
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None
    health_check: HealthCheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    network_disabled: bool = False


@dataclass(frozen=True, slots=True)
class MountSpec:
    """A mount that was asked for, whichever way (``-v``, ``--mount``, ``--tmpfs``).

    :param source: a host path, a volume's name, an image, or empty (anonymous volume, tmpfs).
    :param shallow: a read-only bind leaves mounts below it writable.
    :param propagation: ``rprivate`` and the like; empty for the default.
    :param create_source: make a missing bind source a folder (``-v`` does, ``--mount`` does not).
    :param tmpfs_size: bytes; 0 for the kernel's default.
    :param tmpfs_mode: permission bits; 0 for 1777.
    :param tmpfs_options: further mount options, as of ``--tmpfs /x:OPTIONS``.
    """

    kind: MountKind
    destination: str
    source: str = ""
    read_only: bool = False
    recursive: bool = True
    shallow: bool = False
    propagation: str = ""
    no_copy: bool = False
    create_source: bool = False
    subpath: str = ""
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tmpfs_size: int = 0
    tmpfs_mode: int = 0
    tmpfs_options: tuple[str, ...] = ()
    mode: str = ""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount that a container has: a :class:`MountSpec` with everything decided.

    :param name: the volume's name; empty for what is no volume.
    :param source: the folder on the host; an image as it was named; empty for tmpfs.
    :param driver: the volume's driver; the storage driver of an image.
    :param anonymous: a volume that goes with its container (``rm -v``).
    :param options: the volume's, which never change.
    :param image: the id of an image.
    :param layer: the chain id of the image's top layer.
    """

    spec: MountSpec
    name: str = ""
    source: str = ""
    driver: str = ""
    anonymous: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    layer: str = ""


@dataclass(frozen=True, slots=True)
class DeviceMapping:
    """A device of the host given to a container, usable as *access* (some of ``rwm``) says."""

    host: str
    container: str
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit, by its short name (``nofile``); -1 for unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a stopped container is started again.

    :param name: ``no``, ``always``, ``unless-stopped`` or ``on-failure``.
    :param maximum: tries of ``on-failure``; 0 for no end.
    """

    name: str = "no"
    maximum: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where output goes: a log driver's id, empty for the configured one, and its options."""

    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What depends on this host: the API's ``HostConfig``.

    :param binds: as given, for ``inspect``; *mounts* holds them parsed, together with all others.
    :param pid_mode: empty, ``host`` or ``container:ID``; likewise the other modes.
    :param masked_paths: None for the default list; empty for none.
    :param volume_driver: of the *binds* that name volumes; *mounts* has it applied.
    :param isolation: as given; Linux knows only ``default``.
    :param by_cpus: the CPU quota was asked for as a number of CPUs (``--cpus``).
    """

    binds: tuple[str, ...] = ()
    mounts: tuple[MountSpec, ...] = ()
    volumes_from: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    publish_all: bool = False
    network_mode: str = ""
    restart: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    log: LogConfig = LogConfig()
    runtime: str = ""
    limits: Limits = field(default_factory=Limits)
    cgroup_parent: str = ""
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ()
    devices: tuple[DeviceMapping, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()
    group_add: tuple[str, ...] = ()
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = ""
    userns_mode: str = ""
    cgroupns_mode: str = ""
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    read_only: bool = False
    shm_size: int = 64 << 20
    sysctls: Mapping[str, str] = field(default_factory=dict)
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int = 0
    storage_options: Mapping[str, str] = field(default_factory=dict)
    init: bool | None = None
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    console_size: tuple[int, int] = (0, 0)
    container_id_file: str = ""
    volume_driver: str = ""
    isolation: str = ""
    by_cpus: bool = False


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """What was asked of one network: static addresses, a MAC address, aliases, links.

    :param link_local: addresses that the interface gets besides.
    :param gw_priority: the network of the highest one gets the default route.
    """

    address: str = ""
    address6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_options: Mapping[str, str] = field(default_factory=dict)
    gw_priority: int = 0
    link_local: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """A container to create.

    :param name: empty lets the engine find one.
    :param rootfs: a folder of the host as the read-only lower layer, in place of an image.
    :param networks: by name or id; the network of *host.network_mode* may be among them.
    :param platform: ``linux/amd64`` and the like; empty for any.
    :param step: of a build, without which it is of no use.
    """

    config: ContainerConfig
    host: HostOptions = HostOptions()
    networks: Mapping[str, EndpointOptions] = field(default_factory=dict)
    name: str = ""
    rootfs: str = ""
    platform: str = ""
    step: bool = False


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What changes while a container lives; times in nanoseconds since the epoch, 0 for never.

    :param manually_stopped: stopped or killed by a user, which ends ``unless-stopped``.
    :param restart_asked: a user's restart is under way, which the next engine is to finish.
    :param rewiring: a network is being joined or left, and route and files may not say so yet.
    :param health: None for a container that has never been probed.
    :param reserved: ports of networks that it has left, whose sockets its monitor keeps.
    """

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started: int = 0
    finished: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    health: Health | None = None
    restart_asked: bool = False
    rewiring: bool = False
    reserved: tuple[PortBinding, ...] = ()

    @property
    def running(self) -> bool:
        """Whether there is a process (a paused one is running, too)."""
        return self.status in {Status.RUNNING, Status.PAUSED}


@dataclass(frozen=True, slots=True)
class Container:
    """A container.

    :param id: 64 hexadecimal digits.
    :param name: without the slash that the API puts before it.
    :param image_id: the image's ``sha256:…``; empty for a rootfs.
    :param image_name: as the user named it.
    :param parent: the chain id of the image's top layer; None for an empty image or a rootfs.
    :param args: the whole command line: entrypoint and cmd of image and request resolved.
    :param config: as asked, completed from the image.
    :param endpoints: by network name; present while attached.
    :param idmap: the user namespace's map, fixed at creation; None for the host's ids.
    :param step: of a build under way; one that ended with its daemon leaves no other container.
    """

    id: str
    name: str
    created: int
    image_id: str
    image_name: str
    parent: str | None
    args: tuple[str, ...]
    config: ContainerConfig
    host: HostOptions
    networks: Mapping[str, EndpointOptions]
    mounts: tuple[MountPoint, ...] = ()
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    state: ContainerState = ContainerState()
    rootfs: str = ""
    storage_driver: str = ""
    platform: str = "linux"
    idmap: IdMap | None = None
    step: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """A network, predefined or made by a user; *subnets* as the driver completed them.

    :param subnets: one of IPv6 is kept as it was given where the network has no IPv6.
    :param auxiliary: what the subnets' reserved addresses are called.
    :param config_only: a configuration for others; it has no driver.
    :param config_from: the name of the configuration that it was made from.
    """

    id: str
    name: str
    driver: str
    created: int = 0
    internal: bool = False
    ipv6: bool = False
    attachable: bool = False
    subnets: tuple[Subnet, ...] = ()
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    config_only: bool = False
    config_from: str = ""

    @property
    def unused_subnets(self) -> tuple[Subnet, ...]:
        """The subnets of an IP version that the network does not have."""
        return tuple(one for one in self.subnets if ":" in one.subnet and not self.ipv6)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the ``local`` driver; *path* is its folder on the host."""

    name: str
    path: str
    created: int
    driver: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
