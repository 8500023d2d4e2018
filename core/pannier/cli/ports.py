"""Published and exposed ports."""

from __future__ import annotations

from pannier.cli.command import UsageError
from pannier.cli.readers import fields

__all__ = ["expose", "publish"]

_PROTOCOLS = ("tcp", "udp", "sctp")


def publish(specs: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return ``PortBindings`` for ``-p`` values: ``[[ip:]host:]container[/protocol]``.

    :raises UsageError: where one is malformed.
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        short = _long_form(spec) if "=" in spec else spec
        for port, binding in _one(short):
            bindings.setdefault(port, []).append(binding)
    return bindings


def expose(specs: list[str]) -> list[str]:
    """Return the ports of ``--expose`` values, ranges spelled out.

    :raises UsageError: where one is malformed.
    """
    found = []
    for spec in specs:
        if ":" in spec:
            raise UsageError(f"invalid port format for --expose: {spec}")
        port, _, protocol = spec.partition("/")
        ports = _range(port)
        if ports is None:
            raise UsageError(f"invalid range format for --expose: {spec}")
        found += [f"{one}/{_protocol(protocol)}" for one in ports]
    return found


def _one(spec: str) -> list[tuple[str, dict[str, str]]]:
    rest, _, protocol = spec.partition("/")
    address, host, container = _split(rest)
    if not container:
        raise UsageError(f"no port specified: {spec}<empty>")
    ports = _range(container)
    if ports is None:
        raise UsageError(f"invalid containerPort: {container}")
    hosts = _range(host) if host else []
    if hosts is None:
        raise UsageError(f"invalid hostPort: {host}")
    proto = _protocol(protocol)
    if not hosts or len(hosts) == len(ports):
        given = [str(one) for one in hosts] or [""] * len(ports)
    elif len(ports) == 1:
        # One port of the container, any one of the host's range.
        given = [host]
    else:
        raise UsageError(
            f"invalid ranges specified for container and host Ports: {container} and {host}"
        )
    return [
        (f"{port}/{proto}", {"HostIp": address, "HostPort": one})
        for port, one in zip(ports, given, strict=True)
    ]


def _split(rest: str) -> tuple[str, str, str]:
    """Return the address, the host's port and the container's port of a short form."""
    head, _, container = rest.rpartition(":")
    if not head:
        return "", "", container
    address, _, host = head.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise UsageError(f"invalid IP address: {address}", hint="write [::1]:8080:80")
    if address and not _is_address(address):
        raise UsageError(f"invalid IP address: {address}")
    return address, host, container


def _is_address(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _range(text: str) -> list[int] | None:
    """Return the ports of ``N`` or ``N-M``; None where it is neither."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        return None
    start, end = int(first), int(last or first)
    if not 0 <= start <= end < 1 << 16:
        return None
    return list(range(start, end + 1))


def _protocol(text: str) -> str:
    protocol = text.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise UsageError(f"invalid proto: {text}", hint="the protocols are tcp, udp and sctp")
    return protocol


def _long_form(spec: str) -> str:
    """Return ``target=80,published=8080,protocol=udp`` in the short form."""
    found = {"target": "", "published": "", "protocol": "tcp"}
    for key, value in fields("publish", spec):
        if key == "mode":
            continue
        if key not in found or value is None:
            raise UsageError(f"invalid field key {key}: {spec}")
        found[key] = value
    if not found["target"]:
        raise UsageError(f"missing mandatory field 'target': {spec}")
    return f"{found['published']}:{found['target']}/{found['protocol']}".removeprefix(":")
