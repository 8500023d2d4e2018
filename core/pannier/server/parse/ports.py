"""Ports: what a container exposes, and what is published of it."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from pannier.drivers.network import PortRequest
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

__all__ = ["parse_exposed", "parse_port", "parse_published"]

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?")
_HOST_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_PROTOCOLS = {"tcp", "udp", "sctp"}
_MAX_PORT = 65535


def parse_port(text: str) -> tuple[range, str]:
    """Parse ``80``, ``80/udp`` or ``80-90/tcp`` into the ports meant and their protocol."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise _invalid(text)
    first = int(match[1])
    last = int(match[2] or first)
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise InvalidRequest(f"invalid protocol: {match[3]}", hint="use tcp, udp or sctp")
    if not 0 < first <= last <= _MAX_PORT:
        raise _invalid(text)
    return range(first, last + 1), protocol


def parse_exposed(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Parse the keys of ``ExposedPorts``; ranges are spelled out."""
    ports: dict[str, None] = {}
    for key in keys:
        numbers, protocol = parse_port(key)
        ports.update((f"{number}/{protocol}", None) for number in numbers)
    return tuple(ports)


def parse_published(fields: Fields) -> tuple[PortRequest, ...]:
    """Parse ``PortBindings``: ``{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}``."""
    requests = []
    for key in fields.keys():  # noqa: SIM118 - Fields is no dictionary
        numbers, protocol = parse_port(key)
        for binding in fields.objects(key):
            host_ip = _host_ip(binding.text("HostIp"))
            low, high = _host_ports(binding.text("HostPort"))
            if len(numbers) == 1:
                requests.append(PortRequest(numbers[0], protocol, host_ip, (low, high)))
                continue
            if low and high - low + 1 != len(numbers):
                raise InvalidRequest(
                    f"invalid ranges specified for container and host Ports: {key} and {low}-{high}"
                )
            for offset, number in enumerate(numbers):
                port = low + offset if low else 0
                requests.append(PortRequest(number, protocol, host_ip, (port, port)))
    return tuple(requests)


def _host_ip(text: str) -> str:
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise InvalidRequest(f"invalid IP address: {text}") from None
    return text


def _host_ports(text: str) -> tuple[int, int]:
    if not text:
        return (0, 0)
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise _invalid(text)
    low = int(match[1])
    high = int(match[2] or low)
    if not low <= high <= _MAX_PORT or (low == 0 and high != 0):
        raise _invalid(text)
    return low, high


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest(f'invalid port specification: "{text}"')
