"""The links of containers, and their parents on the host (rtnetlink(7))."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.errors import Conflict, DriverError, InvalidRequest, UnsupportedOperation
from pannier.linux import rtnl
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, unshare
from pannier.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    ROUTE,
    Message,
    NetlinkError,
    NetlinkSocket,
    attribute,
    is_errno,
    nested,
    text,
    u32,
)

from pannier_net_macvlan.options import Mode
from pannier_net_macvlan.segments import ensure_segment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pannier_net_macvlan.leases import Lease
    from pannier_net_macvlan.networks import MacvlanNetwork

__all__ = [
    "KIND",
    "create_macvlan",
    "delete_changed_macvlan",
    "delete_macvlan",
    "find_macvlan",
    "find_parent",
    "inside",
    "namespaces_by_inode",
    "refusal",
    "scratch_namespace",
    "set_mac",
    "try_parent",
]

KIND: Final = "macvlan"

# linux/rtnetlink.h and linux/if_link.h.
_RTM_NEWLINK: Final = 16
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_LINKINFO: Final = 18
_IFLA_NET_NS_FD: Final = 28
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_MACVLAN_MODE: Final = 1
_HEADER: Final = bytes(16)
"""A ``struct ifinfomsg`` that says nothing."""

_VLAN: Final = re.compile(r"(.+)\.(\d{1,4})")


def create_macvlan(
    name: str, *, parent: int, netns: int, mode: Mode, mac: str | None = None, mtu: int = 0
) -> Message:
    """Create a link on a parent, in another namespace, that is down; EEXIST where it has the name.

    :param parent: the index of the host's link.
    :param netns: a descriptor of the namespace.
    :param mac: None lets the kernel choose; with ``passthru`` it is the parent's in any case.
    :param mtu: in bytes; 0 for the parent's.
    """
    payload = (
        _HEADER
        + text(_IFLA_IFNAME, name)
        + (attribute(_IFLA_ADDRESS, _packed(mac)) if mac else b"")
        + (u32(_IFLA_MTU, mtu) if mtu else b"")
        + u32(_IFLA_LINK, parent)
        + u32(_IFLA_NET_NS_FD, netns)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, KIND),
            nested(_IFLA_INFO_DATA, u32(_IFLA_MACVLAN_MODE, mode)),
        )
    )
    return Message(_RTM_NEWLINK, payload, NLM_F_CREATE | NLM_F_EXCL)


def set_mac(name: str, mac: str) -> Message:
    """Give a link another MAC address."""
    payload = _HEADER + text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, _packed(mac))
    return Message(_RTM_NEWLINK, payload)


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# Namespaces.


def inside(netns: int) -> NetlinkSocket:
    """Return a socket of a container's namespace.

    :raises DriverError: the descriptor is no network namespace's.
    """
    try:
        with in_network_namespace(netns):
            return NetlinkSocket(ROUTE)
    except OSError as error:
        raise DriverError(
            f"could not enter the container's network namespace: {error.strerror}",
            hint="start the container again",
        ) from error


@contextlib.contextmanager
def scratch_namespace() -> Iterator[int]:
    """Give a descriptor of a new network namespace, which ends with it, or with this process."""
    made: list[int] = []
    failures: list[OSError] = []

    def make() -> None:
        try:
            unshare(CLONE_NEWNET)
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            failures.append(error)

    # A thread of its own, which never comes back from there.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    try:
        yield made[0]
    finally:
        os.close(made[0])


@contextlib.contextmanager
def namespaces_by_inode(inodes: Collection[int]) -> Iterator[dict[int, int]]:
    """Give descriptors of those of some network namespaces that processes are in, by inode."""
    found: dict[int, int] = {}
    with contextlib.ExitStack() as stack:
        for process in Path("/proc").iterdir() if inodes else ():
            if not process.name.isdecimal():
                continue
            path = process / "ns" / "net"
            with contextlib.suppress(OSError):  # the process has ended
                inode = path.stat().st_ino
                if inode not in inodes or inode in found:
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                found[os.fstat(descriptor).st_ino] = descriptor
        yield found


# Links in containers.


def find_macvlan(netlink: NetlinkSocket, lease: Lease) -> rtnl.Link | None:
    """Return an endpoint's link, where it is in the socket's namespace and as it was made."""
    link = rtnl.find_link(netlink, lease.interface) if lease.interface else None
    if link is None or (link.kind, link.mac) != (KIND, lease.mac):
        return None
    return link


def delete_macvlan(netlink: NetlinkSocket, lease: Lease) -> None:
    """Delete an endpoint's link, where it is as it was made. Idempotent."""
    link = find_macvlan(netlink, lease)
    if link is not None:
        _delete(netlink, link)


def delete_changed_macvlan(netns: int, lease: Lease) -> None:
    """Delete an endpoint's link, also where the container gave it another name or MAC address.

    Idempotent. Not for a namespace in which the link may not have been made: its index is another
    link's there.

    :raises DriverError: the descriptor is no network namespace's.
    """
    with inside(netns) as netlink:
        link = find_macvlan(netlink, lease)
        if link is None and lease.index and os.fstat(netns).st_ino == lease.netns:
            link = next((one for one in rtnl.links(netlink) if one.index == lease.index), None)
        if link is not None and link.kind == KIND:
            _delete(netlink, link)


def _delete(netlink: NetlinkSocket, link: rtnl.Link) -> None:
    with contextlib.suppress(NetlinkError):  # the container was faster
        netlink.request([rtnl.delete_link(link.name)])


# Links of the host.


def find_parent(network: MacvlanNetwork, netlink: NetlinkSocket) -> rtnl.Link:
    """Return the link that a network's containers are on; a private one is made where it is gone.

    :raises InvalidRequest: there is no such link.
    """
    if network.private:
        ensure_segment(network.parent, netlink)
    link = rtnl.find_link(netlink, network.parent) if _is_name(network.parent) else None
    if link is None:
        raise InvalidRequest(
            f"network {network.spec.name}: the host has no link {network.parent!r}",
            hint=_how_to_make(network.parent, netlink),
        )
    if network.options.mtu > link.mtu:
        raise InvalidRequest(
            f"network {network.spec.name}: an MTU of {network.options.mtu} bytes is more than "
            f"the {link.mtu} of its parent {link.name}"
        )
    return link


def _is_name(text: str) -> bool:
    return 0 < len(os.fsencode(text)) <= 15


def _how_to_make(parent: str, netlink: NetlinkSocket) -> str:
    """Say what can be done about a parent that is missing."""
    vlan = _VLAN.fullmatch(parent)
    if vlan and 0 < int(vlan[2]) < 4095 and rtnl.find_link(netlink, vlan[1]) is not None:
        return (
            f"make the VLAN first: ip link add link {vlan[1]} name {parent} type vlan "
            f"id {int(vlan[2])}; ip link set {parent} up"
        )
    names = [link.name for link in rtnl.links(netlink) if link.name != "lo"]
    return f"links of the host: {', '.join(names) or 'none'}"


def try_parent(network: MacvlanNetwork) -> None:
    """Make a link as the network's containers will get, where nobody sees it, and delete it.

    :raises InvalidRequest: there is no such parent.
    :raises Conflict: another use of the parent leaves no room for one.
    :raises UnsupportedOperation: the parent can have none.
    """
    with NetlinkSocket(ROUTE) as netlink, scratch_namespace() as netns:
        parent = find_parent(network, netlink)
        message = create_macvlan("try", parent=parent.index, netns=netns, mode=network.options.mode)
        try:
            netlink.request([message])
        except NetlinkError as error:
            raise refusal(error, network) from error
        # Or the kernel would do it later, and a passthru parent would be taken until then.
        with inside(netns) as there:
            there.request([rtnl.delete_link("try")])


def refusal(
    error: NetlinkError, network: MacvlanNetwork
) -> Conflict | DriverError | UnsupportedOperation:
    """Say in words why the kernel refuses a link on a network's parent."""
    name, parent = network.spec.name, network.parent
    if is_errno(error, "EBUSY"):
        return Conflict(
            f"network {name}: the parent {parent} is a port of a bridge or a bond",
            hint="take the bridge or the bond itself as the parent",
        )
    if is_errno(error, "EINVAL") and network.options.mode is Mode.PASSTHRU:
        return Conflict(
            f"network {name}: the parent {parent} has other macvlan links, and passthru shares it "
            f"with nobody",
            hint="remove the others, or choose another parent or macvlan_mode",
        )
    if is_errno(error, "EINVAL", "EOPNOTSUPP", "EPERM"):
        return UnsupportedOperation(
            f"network {name}: there can be no macvlan link on {parent}: {error.strerror}",
            hint="choose an Ethernet link that no passthru link is on",
        )
    return DriverError(
        f"network {name}: could not make a macvlan link on {parent}: {error.strerror}",
        hint="run `pannier doctor`",
    )
