"""A host, an outside and containers to try network drivers in, made of network namespaces.

The calling thread itself becomes the host: it leaves the machine's network for a new one, so that
whatever a driver makes is made there, and is gone with it. The kit stands in for the runtime:
it makes the containers' namespaces and hands descriptors of them to the driver.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.linux import rtnl
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, setns, unshare
from pannier.linux.netlink import ROUTE, NetlinkError, NetlinkSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HOST_ADDRESS", "LAB_SUBNET", "OUTSIDE_ADDRESS", "UPLINK", "Lab", "lab"]

UPLINK: Final = "uplink0"
"""The host's link to the outside; a driver whose networks sit on a link of the host uses it."""

LAB_SUBNET: Final = "198.51.100.0/24"
HOST_ADDRESS: Final = "198.51.100.1"
OUTSIDE_ADDRESS: Final = "198.51.100.2"

_PATIENCE = 5.0
"""Seconds for an answer that has to come."""
_IMPATIENCE = 0.3
"""Seconds after which a packet is taken to have been dropped."""
_LOOPBACK = 1
_SETTINGS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


@dataclass
class Lab:
    """The host, as the thread that is in it sees it.

    :param outside: a descriptor of the neighbour's namespace, behind :data:`UPLINK`.
    :param first_settings: :meth:`settings` as they were when the lab was new.
    """

    outside: int
    first_settings: dict[str, str] = field(default_factory=dict)
    _sockets: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _namespaces: list[int] = field(default_factory=list)

    # Namespaces.

    def new_namespace(self, *, loopback: bool = False) -> int:
        """Make a namespace as a container's first process has one; closed with the lab.

        :param loopback: bring its loopback link up, as the driver of another container has done.
        """
        made = _new_namespace()
        self._namespaces.append(made)
        if loopback:
            with in_network_namespace(made), NetlinkSocket(ROUTE) as netlink:
                netlink.request([rtnl.set_up(_LOOPBACK)])
        return made

    def host_namespace(self) -> int:
        """Return a descriptor of the host's own namespace; closed with the lab."""
        self._namespaces.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        return self._namespaces[-1]

    def destroy(self, netns: int) -> None:
        """Close the last descriptor of a namespace: its container has ended."""
        self._namespaces.remove(netns)
        os.close(netns)

    @contextlib.contextmanager
    def inside(self, netns: int | None) -> Iterator[None]:
        """Have the calling thread in a namespace for a while; None is the host itself."""
        if netns is None:
            yield
        else:
            with in_network_namespace(netns):
                yield

    # Looking.

    def links(self, netns: int | None = None) -> dict[str, rtnl.Link]:
        """Return the links of a namespace by name."""
        with self.inside(netns):
            netlink = NetlinkSocket(ROUTE)
        with netlink:
            return {link.name: link for link in rtnl.links(netlink)}

    def addresses(self, netns: int | None, link: str = "") -> set[str]:
        """Return addresses with their prefixes, IPv4 and (but link-local ones) IPv6.

        :param link: whose; empty for all of the namespace's.
        """
        index = self.links(netns)[link].index if link else 0
        with self.inside(netns):
            netlink = NetlinkSocket(ROUTE)
            try:
                six = Path("/proc/thread-self/net/if_inet6").read_text()
            except FileNotFoundError:  # a kernel without IPv6
                six = ""
        with netlink:
            given = [(one.link, str(one.interface)) for one in rtnl.addresses(netlink)]
        for line in six.splitlines():
            packed, at, prefix, _scope, _flags, _name = line.split()
            address = IPv6Address(bytes.fromhex(packed))
            if not address.is_link_local:
                given.append((int(at, 16), f"{address}/{int(prefix, 16)}"))
        return {address for at, address in given if index in (0, at)}

    def default_routes(self, netns: int | None) -> list[tuple[str, str]]:
        """Return the IPv4 default routes: (gateway, link's name)."""
        names = {link.index: name for name, link in self.links(netns).items()}
        with self.inside(netns):
            netlink = NetlinkSocket(ROUTE)
        with netlink:
            return [
                (str(route.gateway or ""), names.get(route.link, ""))
                for route in rtnl.routes(netlink)
                if route.destination.prefixlen == 0
            ]

    def delete_link(self, name: str, netns: int | None = None) -> None:
        """Delete a link behind the driver's back; nothing where it has gone."""
        with self.inside(netns):
            netlink = NetlinkSocket(ROUTE)
        with netlink, contextlib.suppress(NetlinkError):
            netlink.request([rtnl.delete_link(name)])

    def play_router(self, address: str, prefix: int) -> None:
        """Have the outside answer for a gateway that the host itself is not."""
        _give_address(self.outside, "eth0", f"{address}/{prefix}")

    def settings(self) -> dict[str, str]:
        """Return the host's kernel parameters that decide whether it is a router."""
        files = {name: Path("/proc/sys/net", name) for name in _SETTINGS}
        # A kernel may be without IPv6.
        return {name: file.read_text().strip() for name, file in files.items() if file.exists()}

    # Talking.

    def listen(self, netns: int | None, port: int, address: str = "0.0.0.0") -> socket.socket:
        """Open a TCP server; closed with the lab."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside(netns):
            server = socket.create_server((address, port), family=family)
        server.settimeout(_PATIENCE)
        return self._sockets.enter_context(server)

    def connect(
        self, netns: int | None, address: str, port: int, *, patience: float = _PATIENCE
    ) -> socket.socket:
        """Open a TCP connection from a namespace; closed with the lab."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside(netns):
            client = self._sockets.enter_context(socket.socket(family))
        client.settimeout(patience)
        client.connect((address, port))
        return client

    def talk(self, server: socket.socket, netns: int | None, address: str, port: int) -> str:
        """Exchange bytes over TCP; return the client's address as the server sees it."""
        with self.connect(netns, address, port) as client:
            connection, peer = server.accept()
            with connection:
                connection.settimeout(_PATIENCE)
                client.sendall(b"question")
                assert connection.recv(100) == b"question"
                connection.sendall(b"answer")
                assert client.recv(100) == b"answer"
        return str(peer[0])

    def reaches(self, netns: int | None, address: str, port: int) -> bool:
        """Whether a TCP connection can be made."""
        try:
            self.connect(netns, address, port, patience=_IMPATIENCE).close()
        except OSError:
            return False
        return True

    def talk_udp(self, server: socket.socket, netns: int | None, address: str, port: int) -> None:
        """Exchange datagrams with a server that :meth:`listen_udp` opened."""
        with self.inside(netns):
            client = socket.socket(type=socket.SOCK_DGRAM)
        with client:
            client.settimeout(_PATIENCE)
            # Connected, it takes answers from the address asked alone, as real clients do.
            client.connect((address, port))
            client.send(b"question")
            question, peer = server.recvfrom(100)
            assert question == b"question"
            server.sendto(b"answer", peer)
            assert client.recv(100) == b"answer"

    def listen_udp(self, netns: int | None, port: int) -> socket.socket:
        """Open a UDP server; closed with the lab."""
        with self.inside(netns):
            server = self._sockets.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        server.settimeout(_PATIENCE)
        server.bind(("0.0.0.0", port))
        return server

    def can_bind(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
        """Whether a process of the host could take a port on every address."""
        with socket.socket(type=kind) as thief:
            # A server sets it against TIME_WAIT; on a UDP socket it would share the port.
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind is socket.SOCK_STREAM)
            try:
                thief.bind(("0.0.0.0", port))
                if kind is socket.SOCK_STREAM:
                    thief.listen()
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close the sockets and namespaces that were made."""
        self._sockets.close()
        while self._namespaces:
            os.close(self._namespaces.pop())


def _new_namespace() -> int:
    made: list[int] = []

    def make() -> None:
        unshare(CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _give_address(netns: int | None, link: str, address: str) -> None:
    """Bring a link up with an address, and the loopback."""
    with contextlib.nullcontext() if netns is None else in_network_namespace(netns):
        netlink = NetlinkSocket(ROUTE)
    with netlink:
        found = rtnl.find_link(netlink, link)
        assert found is not None
        netlink.request(
            [
                rtnl.set_up(_LOOPBACK),
                rtnl.add_address(found.index, ip_interface(address)),
                rtnl.set_up(found.index),
            ]
        )


def _connect_outside(outside: int) -> None:
    pair = rtnl.create_veth(
        UPLINK,
        "eth0",
        peer_netns=outside,
        peer_mac="02:00:00:00:00:02",
        mtu=1500,
        master=0,
        group=0,
    )
    with NetlinkSocket(ROUTE) as netlink:
        netlink.request([pair])
        _give_address(None, UPLINK, f"{HOST_ADDRESS}/24")
        _give_address(outside, "eth0", f"{OUTSIDE_ADDRESS}/24")
        found = rtnl.find_link(netlink, UPLINK)
        assert found is not None
        netlink.request([rtnl.add_route(found.index, IPv4Address(OUTSIDE_ADDRESS))])


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Put the calling thread on a host of its own, connected to an outside."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        outside = _new_namespace()
        made = Lab(outside)
        try:
            _connect_outside(outside)
            made.first_settings = made.settings()
            yield made
        finally:
            made.close()
            os.close(outside)
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)
