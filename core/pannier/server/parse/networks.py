"""Networks: endpoints of containers, and networks to create."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from pannier.drivers.network import Subnet
from pannier.engine.model import EndpointOptions
from pannier.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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


def parse_ipam(fields: Fields, *, ipv6: bool) -> tuple[Subnet, ...]:
    """Read the ``IPAM`` of a network to create.

    :param ipv6: whether the network has IPv6; without, a subnet of IPv6 may say anything.
    """
    driver = fields.text("Driver")
    if driver not in {"", "default"}:
        raise NotFound(
            f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found',
            hint="leave out --ipam-driver",
        )
    return tuple(_subnet(entry, ipv6=ipv6) for entry in fields.objects("Config"))


def parse_auxiliary(fields: Fields) -> dict[str, str]:
    """Read what the reserved addresses of an ``IPAM`` are called."""
    found: dict[str, str] = {}
    for entry in fields.objects("Config"):
        for name, address in entry.string_map("AuxiliaryAddresses").items():
            found[name] = address.partition("/")[0]
    return found


def _subnet(fields: Fields, *, ipv6: bool) -> Subnet:
    text, gateway = fields.text("Subnet"), fields.text("Gateway")
    interface = _block(text, "subnet")
    if isinstance(interface, ipaddress.IPv6Interface) and not ipv6:
        return Subnet(text, gateway or None, fields.text("IPRange") or None)
    network = interface.network
    if interface.ip != network.network_address:
        raise _wrong(f"invalid subnet {text}: it should be {network}")
    reserved = fields.string_map("AuxiliaryAddresses")
    return Subnet(
        subnet=str(network),
        gateway=_inside(network, gateway, "gateway", gateway) or None,
        ip_range=_ip_range(network, fields.text("IPRange")),
        reserved=tuple(
            _inside(network, address, "auxiliary address", name)
            for name, address in reserved.items()
        ),
    )


def _wrong(text: str) -> InvalidRequest:
    return InvalidRequest(f"invalid network config:\n{text}")


def _block(text: str, what: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        if "/" in text:
            return ipaddress.ip_interface(text)
    except ValueError:
        pass
    raise _wrong(f"invalid {what} {text}: invalid CIDR block notation")


def _inside(network: _Network, text: str, what: str, name: str) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise _wrong(f"invalid {what} {name}: invalid address") from None
    if address.version != network.version:
        raise _wrong(f"invalid {what} {name}: parent subnet is an IPv{network.version} block")
    if address not in network:
        raise _wrong(f"invalid {what} {name}: parent subnet {network} doesn't contain this address")
    return str(address)


def _ip_range(network: _Network, text: str) -> str | None:
    if not text:
        return None
    part = _block(text, "ip-range").network
    if part.version != network.version:
        raise _wrong(f"invalid ip-range {text}: parent subnet is an IPv{network.version} block")
    if part.prefixlen < network.prefixlen:
        raise _wrong(
            f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {network}"
        )
    if part.network_address not in network:
        raise _wrong(f"invalid ip-range {text}: parent subnet {network} doesn't contain ip-range")
    return str(part)
