"""The expressions that nf_tables rules consist of (linux/netfilter/nf_tables.h).

The data of a match stand in registers of four bytes, from :data:`R0` on; a value takes as many
as it needs, and the fields of a concatenation begin each at a register of their own. An expression
that does not match ends its rule, and the next rule is tried.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from pannier.linux.netlink import attribute, be32, nested, text, u8
from pannier.linux.nftables import IPV4, Chain, Verdict

__all__ = [
    "CT_ESTABLISHED",
    "CT_RELATED",
    "CT_STATUS_DNAT",
    "META_IIFNAME",
    "META_L4PROTO",
    "META_OIFNAME",
    "R0",
    "R1",
    "address",
    "address6",
    "compare",
    "constant",
    "counter",
    "ct_state",
    "ct_status",
    "destination_port",
    "dnat",
    "from_loopback",
    "from_loopback6",
    "in_set",
    "interface",
    "lookup",
    "masquerade",
    "meta",
    "port",
    "reset",
    "set_port",
    "to_local_address",
    "unreachable",
    "verdict",
]

R0: Final = 8
R1: Final = 9
_VERDICT_REGISTER: Final = 0

META_IIFNAME: Final = 6
META_OIFNAME: Final = 7
META_L4PROTO: Final = 16

CT_ESTABLISHED: Final = 2
CT_RELATED: Final = 4
CT_STATUS_DNAT: Final = 32
_CT_STATE: Final = 0
_CT_STATUS: Final = 2

_PAYLOAD_NETWORK: Final = 1
_PAYLOAD_TRANSPORT: Final = 2


def _expression(name: str, *values: bytes) -> bytes:
    return text(1, name) + nested(2, *values)


def _value(kind: int, data: bytes) -> bytes:
    return nested(kind, attribute(1, data))


def meta(key: int, register: int = R0) -> bytes:
    """Load a property of the packet."""
    return _expression("meta", be32(1, register), be32(2, key))


def compare(data: bytes, *, equal: bool = True, register: int = R0) -> bytes:
    """Go on only where a register has (or has not) this value."""
    return _expression("cmp", be32(1, register), be32(2, 0 if equal else 1), _value(3, data))


def interface(key: int, name: str, *, equal: bool = True) -> list[bytes]:
    """Go on only where the packet comes in by, or leaves by, a link of this name (or not).

    The name's length with its closing zero byte is what iptables-nft writes and understands.
    """
    return [meta(key), compare(name.encode() + b"\0", equal=equal)]


def address(*, source: bool, register: int = R0) -> bytes:
    """Load the packet's IPv4 source or destination address."""
    offset = 12 if source else 16
    return _payload(_PAYLOAD_NETWORK, offset, 4, register)


def address6(*, source: bool, register: int = R0) -> bytes:
    """Load the packet's IPv6 source or destination address, into four registers."""
    return _payload(_PAYLOAD_NETWORK, 8 if source else 24, 16, register)


def destination_port(register: int) -> bytes:
    """Load the destination port; it is at one place in TCP, UDP and SCTP."""
    return _payload(_PAYLOAD_TRANSPORT, 2, 2, register)


def port(*, source: bool, register: int = R0) -> bytes:
    """Load the source or destination port."""
    return _payload(_PAYLOAD_TRANSPORT, 0 if source else 2, 2, register)


def constant(data: bytes, register: int = R0) -> bytes:
    """Load a value into a register."""
    return _expression("immediate", be32(1, register), _value(2, data))


def set_port(*, source: bool, checksum: int, register: int = R0) -> bytes:
    """Write a register into the packet's source or destination port.

    :param checksum: where in the transport header the checksum is, which is mended too.
    """
    internet_checksum = 1
    return _expression(
        "payload",
        be32(5, register),
        be32(2, _PAYLOAD_TRANSPORT),
        be32(3, 0 if source else 2),
        be32(4, 2),
        be32(6, internet_checksum),
        be32(7, checksum),
    )


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    return _expression(
        "payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, length)
    )


def masked(mask: bytes, register: int = R0) -> bytes:
    """Keep only these bits of a register."""
    return _expression(
        "bitwise",
        be32(1, register),
        be32(2, register),
        be32(3, len(mask)),
        _value(4, mask),
        _value(5, bytes(len(mask))),
    )


def from_loopback(*, source: bool, equal: bool = True) -> list[bytes]:
    """Go on only where the source (or destination) is (or is not) in 127.0.0.0/8."""
    return [
        address(source=source),
        masked(b"\xff\0\0\0"),
        compare(b"\x7f\0\0\0", equal=equal),
    ]


def from_loopback6(*, source: bool, equal: bool = True) -> list[bytes]:
    """Go on only where the source (or destination) is (or is not) ::1."""
    return [address6(source=source), compare(IPv6Address(1).packed, equal=equal)]


def ct_state(bits: int) -> list[bytes]:
    """Go on only where the connection is in one of these states."""
    return _ct(_CT_STATE, bits)


def ct_status(bits: int) -> list[bytes]:
    """Go on only where the connection has one of these marks (CT_STATUS_DNAT)."""
    return _ct(_CT_STATUS, bits)


def _ct(key: int, bits: int) -> list[bytes]:
    return [
        _expression("ct", be32(1, R0), be32(2, key)),
        masked(struct.pack("=I", bits)),
        compare(bytes(4), equal=False),
    ]


def to_local_address() -> list[bytes]:
    """Go on only where the destination is one of the host's own addresses."""
    result_type, flag_destination, local = 3, 2, 2
    return [
        _expression("fib", be32(1, R0), be32(2, result_type), be32(3, flag_destination)),
        compare(struct.pack("=I", local)),
    ]


def lookup(name: str, *, register: int = R0, into: int | None = None) -> bytes:
    """Look a register up in a map; into a register, or by default as a verdict.

    Where the map lacks the key, the rule ends.
    """
    target = _VERDICT_REGISTER if into is None else into
    return _expression("lookup", text(1, name), be32(2, register), be32(3, target))


def in_set(name: str, register: int = R0) -> bytes:
    """Go on only where a set has the register's value."""
    return _expression("lookup", text(1, name), be32(2, register))


def counter() -> bytes:
    """Count packets and bytes."""
    return _expression("counter", attribute(1, bytes(8)), attribute(2, bytes(8)))


def verdict(code: int, chain: Chain = "") -> bytes:
    """End with a verdict."""
    return _expression("immediate", be32(1, _VERDICT_REGISTER), Verdict(code, chain).encode(2))


def dnat(address_register: int, port_register: int, family: int = IPV4) -> bytes:
    """Redirect the connection to an address and port."""
    return _expression(
        "nat",
        be32(1, 1),
        be32(2, family),
        be32(3, address_register),
        be32(4, address_register),
        be32(5, port_register),
        be32(6, port_register),
        be32(7, 3),
    )


def masquerade() -> bytes:
    """Give the connection the address of the link that it leaves by."""
    return _expression("masq")


def reset() -> bytes:
    """End a TCP connection with a reset."""
    tcp_reset = 1
    return _expression("reject", be32(1, tcp_reset))


def unreachable(code: int) -> bytes:
    """Answer with an ICMP message that the destination cannot be reached, of this code."""
    icmp_unreachable = 0
    return _expression("reject", be32(1, icmp_unreachable), u8(2, code))
