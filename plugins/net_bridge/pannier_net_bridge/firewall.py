"""What the driver wants of a firewall; there is one over nf_tables and one over iptables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier_net_bridge.leases import Lease
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["COMMENT", "Closed", "Firewall", "Published", "published"]

COMMENT = "pannier"
"""What marks our rules in chains that are not ours, followed by the bridge's name."""


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the host and where it leads."""

    protocol: str
    host_ip: IPv4Address | IPv6Address
    host_port: int
    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Whether nothing but what is ours may be forwarded, by IP version."""

    four: bool
    six: bool


def published(lease: Lease) -> list[Published]:
    """Return what an endpoint publishes: on either version's addresses its own of that version."""
    return [
        Published(
            port.protocol,
            ip_address(port.host_ip),
            port.host_port,
            ip_address(lease.address6 if ":" in port.host_ip else lease.address),
            port.container_port,
        )
        for port in lease.ports
    ]


class Firewall(ABC):
    """Forwards and translates for the networks, and for nothing else.

    Called from several threads. What it has set up outlives the daemon.
    """

    @abstractmethod
    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: Closed, loopback6: bool) -> None:
        """Make the rules those of these networks, as one change. Published ports stay.

        Rules for IPv6 are there while one of the networks has it.

        :param closed: whether nothing but what is ours may be forwarded.
        :param loopback6: whether published ports can be redirected for ::1 too; else it is refused.
        :raises DriverError: the kernel refused.
        """

    def close(self) -> None:  # noqa: B027 - not every firewall holds something open
        """Let go of descriptors; the rules stay."""

    @abstractmethod
    def tear_down(self) -> None:
        """Remove everything. Idempotent."""

    @abstractmethod
    def publish(self, ports: Sequence[Published]) -> None:
        """Redirect these ports. Idempotent.

        :raises DriverError: the kernel refused; none of them is redirected.
        """

    @abstractmethod
    def withdraw(self, ports: Sequence[Published]) -> None:
        """Redirect these ports no more. Idempotent."""

    @abstractmethod
    def synchronize(self, ports: Sequence[Published]) -> None:
        """Redirect exactly these ports."""

    @abstractmethod
    def generation(self) -> int:
        """Return a number that every change of rules, by anyone, increments."""

    @abstractmethod
    def note_generation(self, looked_at: int) -> None:
        """Take the rules for what was set up, unless they are of a later generation than this one.

        A change that came while they were looked at must not be taken for seen.
        """

    @abstractmethod
    def present(self, *, six: bool = False) -> bool:
        """Whether what was set up is there at all; a closer look than :meth:`intact`.

        :param six: look for the rules of IPv6 too.
        """

    @abstractmethod
    def intact(self) -> bool:
        """Whether nobody has changed any rules since :meth:`note_generation`, but ourselves."""
