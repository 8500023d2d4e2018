"""What the driver wants of a firewall; there is one over nf_tables and one over iptables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.network import PortBinding
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["COMMENT", "Firewall", "Published", "published"]

COMMENT = "pannier"
"""What marks our rules in chains that are not ours, followed by the bridge's name."""


@dataclass(frozen=True, slots=True, order=True)
class Published:
    """A port of the host and where it leads."""

    protocol: str
    host_ip: IPv4Address
    host_port: int
    address: IPv4Address
    port: int


def published(address: str, ports: Sequence[PortBinding]) -> list[Published]:
    """Return what an endpoint with this address publishes."""
    return [
        Published(
            port.protocol,
            IPv4Address(port.host_ip),
            port.host_port,
            IPv4Address(address),
            port.container_port,
        )
        for port in ports
    ]


class Firewall(ABC):
    """Forwards and translates for the networks, and for nothing else.

    Called from several threads. What it has set up outlives the daemon.
    """

    @abstractmethod
    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: bool) -> None:
        """Make the rules those of these networks, as one change. Published ports stay.

        :param closed: whether nothing but what is ours may be forwarded.
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
    def note_generation(self) -> None:
        """Take the rules as they are now for what was set up."""

    @abstractmethod
    def present(self) -> bool:
        """Whether what was set up is there at all; a closer look than :meth:`intact`."""

    @abstractmethod
    def intact(self) -> bool:
        """Whether nobody has changed any rules since :meth:`note_generation`, but ourselves."""
