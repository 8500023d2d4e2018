"""What is answered from a zone of one's own, and what is left to other servers."""

from __future__ import annotations

import ipaddress
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pannier.dns.message import AAAA, ANY, NAME_ERROR, PTR, A, Record, answer

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from pannier.dns.message import Query

__all__ = ["TTL", "Zone", "resolve"]

TTL: Final = 5
"""Seconds that an answer may be kept: long enough to spare a busy client's cache, short enough for
a container that was replaced."""

_REVERSE4: Final = ".in-addr.arpa"
_REVERSE6: Final = ".ip6.arpa"
_NIBBLES: Final = 32


class Zone(Protocol):
    """The names that one client may find."""

    def addresses(self, name: str) -> list[str] | None:
        """Return the addresses of a name in lower case; None where it is not one of the zone's."""

    def name_of(self, address: str) -> str | None:
        """Return the name that belongs to an address, if any."""

    def owns(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether an address is the zone's, so that nobody else knows its name."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Records for a name that is there, none of them where it has none of the type asked for."""

    records: list[Record]
    exists: bool = True


def resolve(query: Query, zone: Zone, limit: int | None = None) -> bytes | None:
    """Return the answer to a query, or None where other servers are to be asked.

    A name that is there but has nothing of the type asked for is answered with an empty answer and
    no error (RFC 2308 §2.2: *no data*), so that a client who asks for IPv6 first takes IPv4 next.
    It carries no SOA record, which forbids everyone to remember it: the name may get an address at
    any moment.

    :param limit: as of :func:`~pannier.dns.message.answer`.
    """
    found = _reverse(query, zone) if query.name.endswith(".arpa") else _forward(query, zone)
    if found is None:
        return None
    code = 0 if found.exists else NAME_ERROR
    return answer(query, found.records, code=code, limit=limit)


def _forward(query: Query, zone: Zone) -> _Found | None:
    addresses = zone.addresses(query.name)
    if addresses is None:
        return None
    records = [Record.address(address, TTL) for address in addresses]
    if query.type != ANY:
        records = [record for record in records if record.type == query.type]
    # In another order each time, which spreads clients that take the first.
    random.shuffle(records)
    return _Found(records if query.type in (A, AAAA, ANY) else [])


def _reverse(query: Query, zone: Zone) -> _Found | None:
    address = _reversed_address(query.name)
    if address is None:
        return None
    name = zone.name_of(str(address))
    if name is not None:
        wanted = query.type in (PTR, ANY)
        return _Found([Record.pointer(name, TTL)] if wanted else [])
    return _Found([], exists=False) if zone.owns(address) else None


def _reversed_address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        if name.endswith(_REVERSE4):
            parts = name.removesuffix(_REVERSE4).split(".")
            return ipaddress.IPv4Address(".".join(reversed(parts)))
        if name.endswith(_REVERSE6):
            nibbles = "".join(reversed(name.removesuffix(_REVERSE6).split(".")))
            if len(nibbles) == _NIBBLES:
                return ipaddress.IPv6Address(int(nibbles, 16))
    except ValueError:
        pass
    return None
