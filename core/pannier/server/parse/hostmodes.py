"""Short texts of ``HostConfig`` with a grammar of their own: namespaces, resolvers, security."""

from __future__ import annotations

import ipaddress

from pannier.errors import InvalidRequest

__all__ = [
    "check_cgroupns",
    "check_hosts",
    "check_ipc",
    "check_network",
    "check_pid",
    "check_resolvers",
    "check_security",
    "check_userns",
    "check_uts",
]

_SECURITY = frozenset({"label", "apparmor", "seccomp", "systempaths", "writable-cgroups"})


def check_network(mode: str) -> str:
    """Return a network mode; Docker's ``default`` is the empty one."""
    if mode.startswith("container:") and not _names_container(mode):
        raise InvalidRequest("Container network mode requires a container's name or id")
    return "" if mode == "default" else mode


def check_pid(mode: str) -> str:
    """Return a PID mode: empty, ``host`` or ``container:ID``."""
    if mode in {"", "host"} or _names_container(mode):
        return mode
    raise InvalidRequest(f"invalid PID mode: {mode}")


def check_ipc(mode: str) -> str:
    """Return an IPC mode: empty, ``none``, ``private``, ``shareable``, ``host``, a container's."""
    if mode in {"", "none", "private", "shareable", "host"} or _names_container(mode):
        return mode
    raise InvalidRequest(f"invalid IPC mode: {mode}")


def check_uts(mode: str) -> str:
    """Return a UTS mode: empty or ``host``."""
    if mode in {"", "host"}:
        return mode
    raise InvalidRequest(f"invalid UTS mode: {mode}")


def check_userns(mode: str) -> str:
    """Return a user namespace mode: empty or ``host``."""
    if mode in {"", "host"}:
        return mode
    raise InvalidRequest(f"invalid user namespace mode: {mode}")


def check_cgroupns(mode: str) -> str:
    """Return a cgroup namespace mode: empty, ``private`` or ``host``."""
    if mode in {"", "private", "host"}:
        return mode
    raise InvalidRequest(f"invalid cgroup namespace mode: {mode}")


def _names_container(mode: str) -> bool:
    kind, _, name = mode.partition(":")
    return kind == "container" and bool(name)


def check_resolvers(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of name servers."""
    for text in addresses:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise InvalidRequest(f"bad nameserver address: {text}") from None
    return addresses


def check_hosts(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lines of ``--add-host``: ``name:address``; an address may be ``host-gateway``."""
    for line in lines:
        name, colon, address = line.partition(":")
        if not colon or not name:
            raise InvalidRequest(f'bad format for add-host: "{line}"')
        if address != "host-gateway":
            try:
                ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
            except ValueError:
                raise InvalidRequest(f'invalid IP address in add-host: "{address}"') from None
    return lines


def check_security(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return security options in the form ``name=value`` or ``no-new-privileges``."""
    return tuple(_security(option) for option in options)


def _security(option: str) -> str:
    if option in {"no-new-privileges", "disable"}:
        return option
    # The older form has a colon: "seccomp:unconfined".
    separator = "=" if "=" in option else ":"
    name, found, value = option.partition(separator)
    if not found:
        raise InvalidRequest(f'invalid --security-opt 1: "{option}"')
    if name == "no-new-privileges":
        if value.lower() not in {"true", "false"}:
            raise InvalidRequest(f'invalid --security-opt 2: "{option}"')
        return f"{name}={value.lower()}"
    if name not in _SECURITY:
        raise InvalidRequest(f'invalid --security-opt 2: "{option}"')
    return f"{name}={value}"
