"""Networks: endpoints of containers, and networks to create."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from pannier.drivers.network import Subnet
from pannier.engine.model import EndpointOptions
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

__all__ = ["check_mac", "parse_auxiliary", "parse_endpoint", "parse_ipam"]

_MAC = re.compile(
    r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}|[0-9a-fA-F]{2}(?:-[0-9a-fA-F]{2}){5}"
    r"|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2}"
)


def parse_endpoint(fields: Fields) -> EndpointOptions:
    """Read an ``EndpointSettings``: what a container asks of one network."""
    ipam = fields.object("IPAMConfig")
    return EndpointOptions(
        address=_address(ipam.text("IPv4Address"), 4),
        address6=_address(ipam.text("IPv6Address"), 6),
        link_local=tuple(_link_local(text) for text in ipam.strings("LinkLocalIPs")),
        mac=check_mac(fields.text("MacAddress")),
        aliases=fields.strings("Aliases"),
        links=fields.strings("Links"),
        driver_options=fields.string_map("DriverOpts"),
        gw_priority=fields.integer("GwPriority"),
    )


def _address(text: str, version: int) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version:
        raise InvalidRequest(f"invalid IPv{version} address: {text}")
    return str(address)


def _link_local(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or not address.is_link_local:
        raise InvalidRequest(
            f"invalid link-local IP address: {text}",
            hint="give one of 169.254.0.0/16 or fe80::/64",
        )
    return str(address)


def check_mac(text: str) -> str:
    """Return a MAC address in its usual form, ``02:42:ac:11:00:02``; empty stays empty."""
    if text and _MAC.fullmatch(text) is None:
        raise InvalidRequest(f"invalid MAC address: {text}")
    digits = re.sub(r"[:.-]", "", text).lower()
    return ":".join(digits[start : start + 2] for start in range(0, len(digits), 2))


def parse_ipam(fields: Fields) -> tuple[Subnet, ...]:
    """Read the ``IPAM`` of a network to create."""
    driver = fields.text("Driver")
    if driver not in {"", "default"}:
        raise InvalidRequest(f'could not resolve driver "{driver}" in registry')
    return tuple(_subnet(entry) for entry in fields.objects("Config"))


def parse_auxiliary(fields: Fields) -> dict[str, str]:
    """Read what the reserved addresses of an ``IPAM`` are called."""
    found: dict[str, str] = {}
    for entry in fields.objects("Config"):
        for name, address in entry.string_map("AuxiliaryAddresses").items():
            found[name] = address.partition("/")[0]
    return found


def _subnet(fields: Fields) -> Subnet:
    text = fields.text("Subnet")
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        reason = "it has host bits set" if "host bits" in str(error) else "it is no CIDR block"
        raise InvalidRequest(f"invalid subnet {text}: {reason}") from None
    gateway = _inside(network, fields.text("Gateway"), "gateway")
    reserved = fields.object("AuxiliaryAddresses")
    return Subnet(
        subnet=str(network),
        gateway=gateway or None,
        ip_range=_ip_range(network, fields.text("IPRange")),
        reserved=tuple(
            _inside(network, reserved.text(name), "auxiliary address")
            for name in reserved.keys()  # noqa: SIM118 - Fields is no dictionary
        ),
    )


def _inside(network: ipaddress.IPv4Network | ipaddress.IPv6Network, text: str, what: str) -> str:
    if not text:
        return ""
    try:
        inside = ipaddress.ip_address(text.partition("/")[0]) in network
    except ValueError:
        raise InvalidRequest(f"invalid {what} {text}: it is no address") from None
    if not inside:
        raise InvalidRequest(f"invalid {what} {text}: it is not in the subnet {network}")
    return text.partition("/")[0]


def _ip_range(network: ipaddress.IPv4Network | ipaddress.IPv6Network, text: str) -> str | None:
    if not text:
        return None
    try:
        part = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidRequest(f"invalid ip-range {text}: it is no CIDR block") from None
    same = part.version == network.version
    if not same or not (
        network.network_address <= part.network_address  # type: ignore[operator] # same version
        and part.broadcast_address <= network.broadcast_address  # type: ignore[operator] # as above
    ):
        raise InvalidRequest(f"invalid ip-range {text}: it is not in the subnet {network}")
    return str(part)
