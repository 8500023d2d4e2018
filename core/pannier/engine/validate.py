"""Refuses what cannot be asked together or at all, in Docker's words, before anything is made."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest
from pannier.linux.capabilities import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.network import Namespace
    from pannier.engine.model import ContainerConfig, HostOptions, RestartPolicy

__all__ = ["capability_names", "check", "check_network", "check_restart", "signal_number"]

_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
_HOSTNAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def signal_number(name: str) -> int:
    """Return a signal's number; *name* as ``SIGTERM``, ``term`` or ``15``.

    :raises InvalidRequest: there is no such signal.
    """
    text = name.strip().upper()
    if text.isdecimal():
        number = int(text)
        if 0 < number < signal.NSIG:
            return number
    else:
        text = text.removeprefix("SIG")
        base, _, offset = text.partition("+" if "+" in text else "-")
        if base in {"RTMIN", "RTMAX"} and (not offset or offset.isdecimal()):
            sign = -1 if "-" in text else 1
            number = int(getattr(signal, f"SIG{base}")) + sign * int(offset or 0)
            if int(signal.SIGRTMIN) <= number <= int(signal.SIGRTMAX):
                return number
        elif f"SIG{text}" in signal.Signals.__members__:
            return int(signal.Signals[f"SIG{text}"])
    raise InvalidRequest(f"Invalid signal: {name}", hint="for instance SIGTERM, TERM or 15")


def capability_names(asked: Iterable[str], field: str) -> list[str]:
    """Return capabilities with their ``CAP_``, or ``ALL``.

    :param field: ``CapAdd`` or ``CapDrop``, for the message.
    :raises InvalidRequest: one is not known.
    """
    names = []
    for item in asked:
        name = item.upper()
        if name != "ALL":
            name = f"CAP_{name.removeprefix('CAP_')}"
            if name not in CAPABILITIES:
                raise InvalidRequest(f'invalid {field}: unknown capability: "{name}"')
        names.append(name)
    return names


def check_restart(policy: RestartPolicy, *, auto_remove: bool = False) -> None:
    """Check a restart policy.

    :raises InvalidRequest: it is none, or cannot be combined with ``--rm``.
    """
    if policy.name not in _POLICIES:
        raise InvalidRequest(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            f"'on-failure', or 'unless-stopped'"
        )
    if policy.maximum and policy.name != "on-failure":
        raise InvalidRequest(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if policy.maximum < 0:
        raise InvalidRequest("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidRequest("can't create 'AutoRemove' container with restart policy")


def check(config: ContainerConfig, host: HostOptions) -> None:
    """Check what was asked for a new container, as far as no driver is needed for it.

    :raises InvalidRequest: with the first thing that is wrong.
    """
    check_restart(host.restart, auto_remove=host.auto_remove)
    _check_config(config)
    capability_names(host.cap_add, "CapAdd")
    capability_names(host.cap_drop, "CapDrop")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidRequest(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidRequest("SHM size can not be less than 0")
    _check_modes(host)
    if config.hostname and host.uts_mode == "host":
        raise InvalidRequest("conflicting options: hostname and the UTS mode")
    _check_sysctls(host)


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidRequest(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute "
            f"path"
        )
    for entry in config.env:
        if not entry.partition("=")[0]:
            raise InvalidRequest(f"invalid environment variable: {entry}")
        if "\0" in entry:
            raise InvalidRequest("an environment variable may not hold a NUL character")
    if any("\0" in word for word in (*(config.cmd or ()), *(config.entrypoint or ()))):
        raise InvalidRequest("a command may not hold a NUL character")
    if config.stop_signal:
        signal_number(config.stop_signal)
    if config.hostname and not _HOSTNAME.fullmatch(config.hostname):
        raise InvalidRequest(f"invalid hostname format: {config.hostname}")
    for destination in config.volumes:
        if not destination.startswith("/"):
            raise InvalidRequest(
                f"invalid volume specification: '{destination}': mount path must be absolute"
            )


_MODES = {
    "pid_mode": ("PID", ("", "host"), True),
    "ipc_mode": ("IPC", ("", "none", "private", "shareable", "host"), True),
    "uts_mode": ("UTS", ("", "host"), False),
    "userns_mode": ("user namespace", ("", "host"), False),
    "cgroupns_mode": ("cgroup namespace", ("", "private", "host"), False),
}


def _check_modes(host: HostOptions) -> None:
    for field, (title, values, joins) in _MODES.items():
        mode = getattr(host, field)
        if mode in values or (joins and mode.partition(":")[0] == "container" and mode[10:]):
            continue
        raise InvalidRequest(f"invalid {title} mode: {mode}")


# What belongs to a namespace; all else would change the host (ipc_namespaces(7)).
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in [
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    ]
)
_SYSCTL = re.compile(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_/-]+)+")


def _check_sysctls(host: HostOptions) -> None:
    for name in host.sysctls:
        ipc = name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")
        if not _SYSCTL.fullmatch(name) or not (ipc or name.startswith("net.")):
            raise InvalidRequest(
                f"sysctl '{name}' is not allowed",
                hint="only what has a namespace can be set: net.*, fs.mqueue.* and kernel's IPC",
            )
        if ipc and host.ipc_mode == "host":
            raise InvalidRequest(f"sysctl '{name}' is not allowed with the host's IPC namespace")


def check_network(config: ContainerConfig, host: HostOptions, namespace: Namespace) -> None:
    """Check what was asked against the network namespace that the container is to get.

    :raises InvalidRequest: the two exclude one another.
    """
    if namespace.kind == "container":
        refused = {
            "hostname and the network mode": bool(config.hostname),
            "dns and the network mode": bool(host.dns),
            "custom host-to-IP mapping and the network mode": bool(host.extra_hosts),
            "port publishing and the container type network mode": bool(
                host.ports or host.publish_all
            ),
            "links can't be used with the container type network mode": bool(host.links),
        }
        for what, asked in refused.items():
            if asked:
                raise InvalidRequest(f"conflicting options: {what}")
    if namespace.kind == "host":
        for name in host.sysctls:
            if name.startswith("net."):
                raise InvalidRequest(
                    f"sysctl '{name}' is not allowed with the host's network namespace"
                )
