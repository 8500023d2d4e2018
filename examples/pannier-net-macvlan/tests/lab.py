"""A host and an outside to try the driver in, made of network namespaces.

The calling thread is in the host for a while, and so are the processes that it starts. The host
has a link, :data:`PARENT`, whose other end is in the outside.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Final

from pannier.linux import rtnl
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, unshare
from pannier.linux.netlink import ROUTE, NetlinkSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GATEWAY", "HOST", "PARENT", "SUBNET", "Lab", "lab"]

PARENT: Final = "parent0"
SUBNET: Final = "198.51.100.0/24"
GATEWAY: Final = "198.51.100.1"
"""The outside, which is where the networks' gateway is."""
HOST: Final = "198.51.100.2"
"""The host's own address on the parent."""

_LOOPBACK: Final = 1
_PATIENCE: Final = 5.0
_IMPATIENCE: Final = 0.3
"""Seconds after which a packet is taken to have been dropped."""


@dataclass
class Lab:
    """The host, as the thread that is in it sees it."""

    outside: int
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def namespace(self) -> int:
        """Return a descriptor of a new namespace, as a container gets one."""
        made = _new_namespace()
        self._open.callback(_close, made)
        return made

    def links(self, netns: int | None = None) -> dict[str, rtnl.Link]:
        """Return the links of the host or of a namespace, by name."""
        with _socket(netns) as netlink:
            return {link.name: link for link in rtnl.links(netlink)}

    def addresses(self, netns: int | None = None) -> set[str]:
        """Return the addresses of the host or of a namespace, but the loopback's."""
        with _socket(netns) as netlink:
            found = {str(one.interface.ip) for one in rtnl.addresses(netlink)}
            return (found | {str(one) for one in rtnl.addresses6(netlink)}) - {"127.0.0.1", "::1"}

    def make_parent(self, name: str = PARENT, peer: str = "eth0") -> None:
        """Make a link of the host that leads to the outside, both ends up and without address."""
        pair = rtnl.create_veth(
            name,
            peer,
            peer_netns=self.outside,
            peer_mac=f"02:{os.urandom(5).hex(':')}",
            mtu=1500,
            master=0,
            group=0,
        )
        with _socket(None) as netlink:
            netlink.request([pair])
            _set_up(netlink, name)
        with _socket(self.outside) as netlink:
            _set_up(netlink, peer)

    def make_bridge(self, name: str) -> int:
        """Make a bridge on the host, and return its index."""
        with _socket(None) as netlink:
            netlink.request([rtnl.create_bridge(name, "02:00:00:00:00:77", 1500)])
            _set_up(netlink, name)
        return self.links()[name].index

    def delete_link(self, name: str, netns: int | None = None) -> None:
        """Delete a link."""
        with _socket(netns) as netlink:
            netlink.request([rtnl.delete_link(name)])

    def give_address(self, netns: int | None, link: str, address: str) -> None:
        """Give a link an address."""
        with _socket(netns) as netlink:
            found = rtnl.find_link(netlink, link)
            assert found is not None
            netlink.request([rtnl.add_address(found.index, ip_interface(address))])

    def listen(self, netns: int | None, port: int, address: str = "0.0.0.0") -> socket.socket:
        """Open a TCP server; closed with the lab."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with _inside(netns):
            server = socket.create_server((address, port), family=family)
        return self._open.enter_context(server)

    def reaches(
        self, netns: int | None, address: str, port: int, *, patience: float = _PATIENCE
    ) -> bool:
        """Whether a TCP connection can be made."""
        with _inside(netns):
            client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        with client:
            client.settimeout(patience)
            try:
                client.connect((address, port))
            except OSError:
                return False
            return True

    def misses(self, netns: int | None, address: str, port: int) -> bool:
        """Whether no TCP connection can be made, for a while."""
        return not self.reaches(netns, address, port, patience=_IMPATIENCE)

    def close(self) -> None:
        """Close what is open."""
        self._open.close()


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Put the calling thread on a host of its own, with a parent that leads to an outside."""
    host, outside = _new_namespace(), _new_namespace()
    made = Lab(outside)
    try:
        with in_network_namespace(host):
            with _socket(None) as netlink:
                netlink.request([rtnl.set_up(_LOOPBACK)])
            made.make_parent()
            made.give_address(None, PARENT, f"{HOST}/24")
            made.give_address(outside, "eth0", f"{GATEWAY}/24")
            yield made
    finally:
        made.close()
        os.close(outside)
        os.close(host)


def _new_namespace() -> int:
    made: list[int] = []

    def make() -> None:
        unshare(CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the test may have ended the container
        os.close(descriptor)


def _inside(netns: int | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if netns is None else in_network_namespace(netns)


@contextlib.contextmanager
def _socket(netns: int | None) -> Iterator[NetlinkSocket]:
    with _inside(netns):
        netlink = NetlinkSocket(ROUTE)
    with netlink:
        yield netlink


def _set_up(netlink: NetlinkSocket, name: str) -> None:
    found = rtnl.find_link(netlink, name)
    assert found is not None
    netlink.request([rtnl.set_up(found.index)])
