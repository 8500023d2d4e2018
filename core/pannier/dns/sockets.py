"""The server's sockets, inside a container's network namespace.

They answer at 127.0.0.11, port 53, and yet leave port 53 to the container, which may run a name
server of its own on every address: they are bound to another port, and packets for port 53 of that
one address are rewritten on their way out, as are the answers. The rewriting keeps no state, so the
container's traffic is not tracked for its sake.

They are bound to the loopback *device*: what comes in by any other is not delivered to them,
whatever its address and whatever the container sets ``route_localnet`` to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pannier.errors import DriverError
from pannier.linux import nftables as nft
from pannier.linux import nftexpr as expr
from pannier.linux import rtnl
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.netlink import NETFILTER, ROUTE, NetlinkError, NetlinkSocket, is_errno
from pannier.linux.pidfds import take_descriptor

__all__ = ["ADDRESS", "DNSSockets", "adopt_sockets", "open_sockets"]

ADDRESS: Final = "127.0.0.11"
_PORT: Final = 53
_PORTS: Final = range(64053, 64085)
"""Where the sockets are really bound: above what the kernel chooses from for clients."""

_TABLE: Final = "pannier-dns"
_CHAIN: Final = "output"
_BEFORE_TRACKING: Final = -300
_LOOPBACK: Final = 1
_BACKLOG: Final = 16
_CHECKSUMS: Final = ((socket.IPPROTO_UDP, 6), (socket.IPPROTO_TCP, 16))
"""The protocols, and where in their headers the checksum is."""


@dataclass(frozen=True, slots=True)
class DNSSockets:
    """A bound UDP socket and a listening TCP socket; neither blocks."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Close both. Idempotent."""
        self.udp.close()
        self.tcp.close()


def open_sockets(netns: int) -> DNSSockets:
    """Make the sockets in a network namespace, and have port 53 lead to them. Repeatable.

    :param netns: a descriptor of the namespace.
    :raises DriverError: the namespace has gone, or all ports are taken.
    """
    try:
        with in_network_namespace(netns):
            return _open()
    except OSError as error:
        raise DriverError(
            f"could not serve names at {ADDRESS} in the container's network namespace: "
            f"{error.strerror or error}",
            hint="start the container again",
        ) from error


def _open() -> DNSSockets:
    with NetlinkSocket(ROUTE) as netlink:
        netlink.request([rtnl.set_up(_LOOPBACK)])
    for port in _PORTS:
        try:
            sockets = _bind(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        try:
            if _redirect(port):
                return sockets
        except BaseException:
            sockets.close()
            raise
        sockets.close()
        # Without nf_tables the port itself is taken, which a server of the container's may miss.
        return _bind(_PORT)
    raise OSError(errno.EADDRINUSE, "all ports are taken")


def _bind(port: int) -> DNSSockets:
    kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    made: list[socket.socket] = []
    try:
        for kind in kinds:
            one = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
            made.append(one)
            if kind == socket.SOCK_STREAM:
                # Connections of the last daemon's may still be on their way out.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            one.bind((ADDRESS, port))
        made[1].listen(_BACKLOG)
    except BaseException:
        for one in made:
            one.close()
        raise
    return DNSSockets(*made)


def _redirect(port: int) -> bool:
    """Have port 53 lead to *port*; return whether it does: not without nf_tables.

    One transaction: whoever asks meanwhile meets the old rules or the new ones.
    """
    address = socket.inet_aton(ADDRESS)
    outside, inside = struct.pack(">H", _PORT), struct.pack(">H", port)
    base = nft.BaseChain("filter", nft.OUTPUT, _BEFORE_TRACKING)
    messages = [nft.add_table(nft.IPV4, _TABLE), nft.add_chain(nft.IPV4, _TABLE, _CHAIN, base)]
    messages.append(nft.flush_chain(nft.IPV4, _TABLE, _CHAIN))
    for protocol, checksum in _CHECKSUMS:
        for source, old, new in ((False, outside, inside), (True, inside, outside)):
            rule = [
                expr.address(source=source),
                expr.compare(address),
                expr.meta(expr.META_L4PROTO),
                expr.compare(bytes((protocol,))),
                expr.port(source=source),
                expr.compare(old),
                expr.constant(new),
                expr.set_port(source=source, checksum=checksum),
            ]
            messages.append(nft.add_rule(nft.IPV4, _TABLE, _CHAIN, rule))
    try:
        with contextlib.closing(NetlinkSocket(NETFILTER)) as netlink:
            nft.commit(netlink, messages)
    except NetlinkError as error:
        if is_errno(error, "EOPNOTSUPP", "ENOENT", "EINVAL", "EPROTONOSUPPORT"):
            return False
        raise
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            return False
        raise
    return True


def adopt_sockets(pid: int) -> DNSSockets | None:
    """Return duplicates of the sockets that a container's monitor keeps; None where it has none.

    The monitor is the parent of the container's first process. Which of its descriptors they are
    is found by their inodes, which the namespace lists with the addresses.

    :param pid: the container's first process.
    """
    found = []
    try:
        parent = _parent(pid)
        descriptors = _sockets_of(parent)
        pidfd = os.pidfd_open(parent)
    except (OSError, ValueError):
        return None
    try:
        for table, state in (("udp", None), ("tcp", "0A")):
            for inode in _inodes(pid, table, state):
                if inode in descriptors:
                    taken = take_descriptor(pidfd, descriptors[inode])
                    found.append(socket.socket(fileno=taken))
                    break
    except OSError:
        pass  # seen as missing
    finally:
        os.close(pidfd)
    if len(found) != len(_CHECKSUMS):
        for one in found:
            one.close()
        return None
    for one in found:
        one.setblocking(False)
    return DNSSockets(*found)


def _parent(pid: int) -> int:
    # Behind the name, which may have spaces and parentheses: proc_pid_stat(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def _sockets_of(pid: int) -> dict[str, int]:
    """Return the descriptors of a process's sockets, by inode."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind, _, rest = str(link.readlink()).partition(":[")
            if kind == "socket":
                found[rest.rstrip("]")] = int(link.name)
    return found


def _inodes(pid: int, table: str, state: str | None) -> list[str]:
    """Return the inodes of the sockets at our address in a namespace, as /proc lists them."""
    wanted = f"{int.from_bytes(socket.inet_aton(ADDRESS), sys.byteorder):08X}"
    found = []
    for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].partition(":")[0] == wanted and state in (None, fields[3]):
            found.append(fields[9])
    return found
