"""From a container to the OCI runtime-spec configuration that its runtime is given."""

from __future__ import annotations

import contextlib
import functools
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.engine import caps, devices, joins, security, specmounts
from pannier.errors import InvalidRequest
from pannier.linux.rlimits import RLIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers import oci
    from pannier.drivers.base import IdMapping
    from pannier.engine.joins import Joins
    from pannier.engine.model import Container, Ulimit
    from pannier.engine.sessions import ExecConfig
    from pannier.engine.users import UserIds

__all__ = [
    "DEFAULT_PATH",
    "Surroundings",
    "build",
    "check",
    "environment",
    "exec_environment",
    "process",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_OCI_VERSION = "1.2.0"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's specification needs to know beside the container.

    :param hostname: what the container is called inside.
    :param files: the engine's own files for it, by their place in the container.
    :param shared_memory: a folder to use as /dev/shm; None makes one.
    :param cgroup_path: of the resource driver.
    :param ulimits: the engine's defaults.
    :param linked: variables that tell of linked containers.
    """

    user: UserIds
    joins: Joins
    hostname: str
    files: Mapping[str, str]
    shared_memory: str | None = None
    cgroup_path: str = ""
    ulimits: tuple[Ulimit, ...] = ()
    linked: tuple[str, ...] = ()


def build(container: Container, around: Surroundings) -> oci.Spec:
    """Return the configuration.

    :raises InvalidRequest: what was asked contradicts itself or names what is not there.
    """
    host = container.host
    first = process(container, around.user, around.ulimits, environment(container, around))
    spec: oci.Spec = {
        "ociVersion": _OCI_VERSION,
        "process": first,
        "root": {"path": "rootfs", "readonly": host.read_only},
        "linux": _linux(container, around),
        "mounts": specmounts.mounts(container, around.files, around.shared_memory),
    }
    if host.uts_mode != "host":
        spec["hostname"] = around.hostname
        if container.config.domainname:
            spec["domainname"] = container.config.domainname
    if host.annotations:
        spec["annotations"] = dict(host.annotations)
    return spec


def _linux(container: Container, around: Surroundings) -> oci.Linux:
    host = container.host
    linux: oci.Linux = {
        "namespaces": joins.entries(container, around.joins),
        "rootfsPropagation": "rprivate",
    }
    if around.cgroup_path:
        linux["cgroupsPath"] = around.cgroup_path
    if found := devices.nodes(host):
        linux["devices"] = found
    if sysctls := _sysctls(container, around.joins):
        linux["sysctl"] = sysctls
    if container.idmap is not None and not _joins_any(around.joins):
        linux["uidMappings"] = _mappings(container.idmap.uids)
        linux["gidMappings"] = _mappings(container.idmap.gids)
    if (profile := _seccomp(container)) is not None:
        linux["seccomp"] = profile
    masked = _paths(host.masked_paths, specmounts.MASKED, privileged=host.privileged)
    read_only = _paths(host.readonly_paths, specmounts.READ_ONLY, privileged=host.privileged)
    if masked:
        linux["maskedPaths"] = masked
    if read_only:
        linux["readonlyPaths"] = read_only
    return linux


def _seccomp(container: Container) -> oci.Seccomp | None:
    host = container.host
    if host.privileged:
        return None
    held = caps.choose(host.cap_add, host.cap_drop, privileged=False)
    return security.seccomp(security.parse(host.security_options).seccomp, held)


def check(container: Container, ulimits: tuple[Ulimit, ...]) -> None:
    """Refuse early what :func:`build` would refuse at the start.

    :raises InvalidRequest: as :func:`build`.
    """
    host = container.host
    _seccomp(container)
    if host.devices:
        devices.rules(host)
    _rlimits(ulimits, host.ulimits)


def environment(container: Container, around: Surroundings) -> list[str]:
    """Return the variables of a container's first process; what was asked wins."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": around.hostname}
    if container.config.tty:
        variables["TERM"] = "xterm"
    return _environment(variables, (*around.linked, *container.config.env), around.user.home)


def exec_environment(
    container: Container, config: ExecConfig, user: UserIds, hostname: str
) -> list[str]:
    """Return the variables of a further process: the container's, and its own above them."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        variables["TERM"] = "xterm"
    return _environment(variables, (*container.config.env, *config.env), user.home)


def _environment(variables: dict[str, str], given: tuple[str, ...], home: str) -> list[str]:
    for entry in given:
        name, equals, value = entry.partition("=")
        if equals:
            variables[name] = value
        else:  # a name alone takes the variable away
            variables.pop(name, None)
    variables.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in variables.items()]


def process(
    container: Container, user: UserIds, ulimits: tuple[Ulimit, ...], env: list[str]
) -> oci.Process:
    """Return the OCI ``process`` object of a container's first process."""
    host = container.host
    held = list(caps.choose(host.cap_add, host.cap_drop, privileged=host.privileged))
    account: oci.User = {"uid": user.uid, "gid": user.gid}
    if user.groups:
        account["additionalGids"] = list(user.groups)
    result: oci.Process = {
        "args": list(container.args),
        "cwd": container.config.working_dir or "/",
        "user": account,
        "env": env,
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": security.parse(host.security_options).no_new_privileges,
    }
    if container.config.tty:
        result["terminal"] = True
        rows, columns = host.console_size
        if rows and columns:
            result["consoleSize"] = {"height": rows, "width": columns}
    if limits := _rlimits(ulimits, host.ulimits):
        result["rlimits"] = limits
    if host.oom_score_adj:
        result["oomScoreAdj"] = host.oom_score_adj
    return result


def _joins_any(joined: Joins) -> bool:
    return bool(joined.network or joined.pid or joined.ipc)


def _paths(
    asked: tuple[str, ...] | None, default: tuple[str, ...], *, privileged: bool
) -> list[str]:
    if asked is None:
        return [] if privileged else list(default)
    return list(asked)


def _mappings(ranges: tuple[IdMapping, ...]) -> list[oci.IdMapEntry]:
    return [
        {"containerID": item.container, "hostID": item.host, "size": item.size} for item in ranges
    ]


def _sysctls(container: Container, joined: Joins) -> dict[str, str]:
    found: dict[str, str] = {}
    if not joined.host_network and not joined.network:
        # A container's ports and pings are its own business: any user in it may use all.
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
        if container.idmap is None:
            found["net.ipv4.ping_group_range"] = "0 2147483647"
    found.update(container.host.sysctls)
    return found


def _rlimits(defaults: tuple[Ulimit, ...], asked: tuple[Ulimit, ...]) -> list[oci.Rlimit]:
    found: dict[str, oci.Rlimit] = {}
    for limit in defaults:
        soft, hard = limit.soft, limit.hard
        ceiling = _ceiling(_rlimit_name(limit))
        if ceiling >= 0:
            hard = ceiling if hard < 0 else min(hard, ceiling)
            soft = hard if soft < 0 else min(soft, hard)
        found[limit.name] = _rlimit(limit, soft, hard)
    for limit in asked:
        found[limit.name] = _rlimit(limit, limit.soft, limit.hard)
    return list(found.values())


def _rlimit_name(limit: Ulimit) -> str:
    name = f"RLIMIT_{limit.name.upper()}"
    if name not in RLIMITS:
        raise InvalidRequest(f"invalid ulimit type: {limit.name}")
    return name


def _rlimit(limit: Ulimit, soft: int, hard: int) -> oci.Rlimit:
    infinity = (1 << 64) - 1
    return {
        "type": _rlimit_name(limit),
        "soft": infinity if soft < 0 else soft,
        "hard": infinity if hard < 0 else hard,
    }


@functools.cache
def _ceiling(name: str) -> int:
    """Return the hard limit that this process cannot exceed; -1 where it can have any."""
    if "CAP_SYS_RESOURCE" in caps.available():
        return -1
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(RLIMITS[name])[1]
        return -1 if hard == resource.RLIM_INFINITY else hard
    return -1
