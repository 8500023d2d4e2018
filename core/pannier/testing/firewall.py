"""What is in the firewall of a network namespace, for comparing (linux/netfilter/nf_tables.h)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import NETFILTER, NLM_F_DUMP, NetlinkError, NetlinkSocket, parse
from pannier.linux.nftables import message
from pannier.linux.nftlist import elements

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["firewall_objects"]

_GETTABLE: Final = 1
_GETCHAIN: Final = 4
_GETRULE: Final = 7
_GETSET: Final = 10

_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def firewall_objects() -> Iterator[str]:
    """Yield every table, chain, rule, set and element of the calling thread's namespace.

    A kernel without nf_tables has none.
    """
    with NetlinkSocket(NETFILTER) as netlink:
        try:
            yield from _objects(netlink)
        except NetlinkError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT}:
                raise


def _objects(netlink: NetlinkSocket) -> Iterator[str]:
    for family, given in _dump(netlink, _GETTABLE):
        yield f"table {family} {_name(given[1])}"
    for family, given in _dump(netlink, _GETCHAIN):
        yield f"chain {family} {_name(given[1])} {_name(given[3])}"
    for family, given in _dump(netlink, _GETRULE):
        handle = int.from_bytes(given[3], "big")
        yield f"rule {family} {_name(given[1])} {_name(given[2])} handle {handle}"
    for family, given in _dump(netlink, _GETSET):
        table, name = _name(given[1]), _name(given[2])
        yield f"set {family} {table} {name}"
        number = next(key for key, value in _FAMILIES.items() if value == family)
        for element in elements(netlink, number, table, name):
            yield f"element {family} {table} {name} {element.key.hex()}"


def _dump(netlink: NetlinkSocket, kind: int) -> Iterator[tuple[str, dict[int, bytes]]]:
    for answer in netlink.query(message(kind, 0, b"", NLM_F_DUMP)):
        if answer[0] in _FAMILIES:
            yield _FAMILIES[answer[0]], parse(answer[4:])


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")
