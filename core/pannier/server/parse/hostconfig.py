"""What depends on the host: the API's ``HostConfig``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pannier.drivers.resources import DeviceRule
from pannier.engine.model import DeviceMapping, HostOptions, LogConfig, RestartPolicy, Ulimit
from pannier.engine.validate import capability_names
from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.server.parse.hostmodes import (
    check_cgroupns,
    check_hosts,
    check_ipc,
    check_network,
    check_pid,
    check_resolvers,
    check_security,
    check_userns,
    check_uts,
)
from pannier.server.parse.limits import asks_cpus, parse_limits
from pannier.server.parse.mounts import parse_mounts
from pannier.server.parse.ports import parse_published

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

__all__ = ["parse_host", "parse_restart"]

_ULIMITS = frozenset(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
_SHM_SIZE = 64 << 20
_RESTARTS = ("no", "always", "unless-stopped", "on-failure")
_DEVICE_RULE = re.compile(r"([acb])\s+(\d{1,9}|\*):(\d{1,9}|\*)\s+([rwm]{1,3})")


def parse_host(fields: Fields) -> HostOptions:
    """Read a whole ``HostConfig``."""
    for request in fields.objects("DeviceRequests"):
        raise UnsupportedOperation(
            f'could not select device driver "{request.text("Driver")}" with capabilities: '
            f"{_capability_sets(request)}",
            hint="requests for devices by capability (--gpus) are not supported; use --device",
        )
    restart = parse_restart(fields.object("RestartPolicy"))
    auto_remove = fields.boolean("AutoRemove")
    if auto_remove and restart.name != "no":
        raise InvalidRequest("can't create 'AutoRemove' container with restart policy")
    if fields.text("Isolation") not in {"", "default"}:
        raise InvalidRequest(f"invalid isolation '{fields.text('Isolation')}' on linux")
    return HostOptions(
        binds=fields.strings("Binds"),
        mounts=parse_mounts(fields),
        volumes_from=_volumes_from(fields.strings("VolumesFrom")),
        ports=parse_published(fields.object("PortBindings")),
        publish_all=fields.boolean("PublishAllPorts"),
        network_mode=check_network(fields.text("NetworkMode")),
        restart=restart,
        auto_remove=auto_remove,
        log=_log_config(fields.object("LogConfig")),
        runtime=fields.text("Runtime"),
        limits=parse_limits(fields),
        by_cpus=asks_cpus(fields),
        cgroup_parent=fields.text("CgroupParent"),
        privileged=fields.boolean("Privileged"),
        cap_add=_capabilities(fields, "CapAdd"),
        cap_drop=_capabilities(fields, "CapDrop"),
        security_options=check_security(fields.strings("SecurityOpt")),
        devices=tuple(_device(entry) for entry in fields.objects("Devices")),
        device_rules=tuple(_device_rule(text) for text in fields.strings("DeviceCgroupRules")),
        group_add=fields.strings("GroupAdd"),
        pid_mode=check_pid(fields.text("PidMode")),
        ipc_mode=check_ipc(fields.text("IpcMode")),
        uts_mode=check_uts(fields.text("UTSMode")),
        userns_mode=check_userns(fields.text("UsernsMode")),
        cgroupns_mode=check_cgroupns(fields.text("CgroupnsMode")),
        dns=check_resolvers(fields.strings("Dns")),
        dns_options=fields.strings("DnsOptions"),
        dns_search=fields.strings("DnsSearch"),
        extra_hosts=check_hosts(fields.strings("ExtraHosts")),
        links=_links(fields.strings("Links")),
        read_only=fields.boolean("ReadonlyRootfs"),
        shm_size=_shm_size(fields.integer("ShmSize")),
        sysctls=fields.string_map("Sysctls"),
        ulimits=tuple(_ulimit(entry) for entry in fields.objects("Ulimits")),
        oom_score_adj=_oom_score(fields.integer("OomScoreAdj")),
        storage_options=fields.string_map("StorageOpt"),
        init=fields.optional_boolean("Init"),
        masked_paths=fields.optional_strings("MaskedPaths"),
        readonly_paths=fields.optional_strings("ReadonlyPaths"),
        annotations=fields.string_map("Annotations"),
        console_size=_console_size(fields),
        container_id_file=fields.text("ContainerIDFile"),
        volume_driver=fields.text("VolumeDriver"),
        isolation=fields.text("Isolation"),
    )


def _capability_sets(request: Fields) -> str:
    sets = (item if isinstance(item, list) else [item] for item in request.items("Capabilities"))
    return "[" + " ".join(f"[{' '.join(map(str, names))}]" for names in sets) + "]"


def parse_restart(fields: Fields) -> RestartPolicy:
    """Read a ``RestartPolicy``."""
    name, maximum = fields.text("Name") or "no", fields.integer("MaximumRetryCount")
    if name not in _RESTARTS:
        raise InvalidRequest(
            f"invalid restart policy: unknown policy '{name}'; use one of "
            + ", ".join(f"'{known}'" for known in _RESTARTS)
        )
    if maximum < 0:
        raise InvalidRequest("invalid restart policy: maximum retry count cannot be negative")
    if maximum and name != "on-failure":
        raise InvalidRequest(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    return RestartPolicy(name, maximum)


def _volumes_from(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value:
            raise InvalidRequest("volumes-from specification cannot be an empty string")
        _, colon, mode = value.partition(":")
        if colon and not set(mode.split(",")) <= {"ro", "rw", "z", "Z"}:
            raise InvalidRequest(f"invalid mode: {mode}")
    return values


def _links(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value:
            raise InvalidRequest("empty string specified for links")
        if value.count(":") > 1:
            raise InvalidRequest(f"bad format for links: {value}")
    return values


def _log_config(fields: Fields) -> LogConfig:
    return LogConfig(fields.text("Type"), fields.string_map("Config"))


def _capabilities(fields: Fields, name: str) -> tuple[str, ...]:
    # Kept as they were asked for: clients compare what is shown with what they would ask for now.
    asked = tuple(fields.strings(name))
    capability_names(asked, name)
    return asked


def _device(fields: Fields) -> DeviceMapping:
    host = fields.text("PathOnHost")
    if not host.startswith("/"):
        raise InvalidRequest(f'invalid device "{host}": the path on the host must be absolute')
    access = fields.text("CgroupPermissions") or "rwm"
    if not set(access) <= set("rwm") or len(set(access)) != len(access):
        raise InvalidRequest(f"invalid device mode: {access}", hint="use some of the letters rwm")
    return DeviceMapping(host, fields.text("PathInContainer") or host, access)


def _device_rule(text: str) -> DeviceRule:
    match = _DEVICE_RULE.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"invalid device cgroup rule format: '{text}'", hint="write: c 1:3 rwm"
        )
    major, minor = (None if part == "*" else int(part) for part in match.group(2, 3))
    return DeviceRule(allow=True, type=match[1], major=major, minor=minor, access=match[4])


def _shm_size(size: int) -> int:
    if size < 0:
        raise InvalidRequest("SHM size can not be less than 0")
    return size or _SHM_SIZE


def _ulimit(fields: Fields) -> Ulimit:
    name, soft, hard = fields.text("Name"), fields.integer("Soft"), fields.integer("Hard")
    if name not in _ULIMITS:
        raise InvalidRequest(
            f"invalid ulimit type: {name}", hint="use one of " + ", ".join(sorted(_ULIMITS))
        )
    if min(soft, hard) < -1:
        raise InvalidRequest(f"invalid ulimit {name}: -1 is for no limit")
    if hard != -1 and (soft > hard or soft == -1):
        raise InvalidRequest(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return Ulimit(name, soft, hard)


def _oom_score(value: int) -> int:
    if not -1000 <= value <= 1000:
        raise InvalidRequest(f"Invalid value {value}, range for oom score adj is [-1000, 1000]")
    return value


def _console_size(fields: Fields) -> tuple[int, int]:
    values = fields.items("ConsoleSize")
    if not values:
        return (0, 0)
    if len(values) != 2 or not all(type(value) is int and 0 <= value < 1 << 16 for value in values):
        raise InvalidRequest("ConsoleSize must be [height, width]")
    return (values[0], values[1])
