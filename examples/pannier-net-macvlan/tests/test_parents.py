"""The link of the host that a network is on: missing, gone, shared, or none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pannier.drivers.network import NetworkSpec
from pannier.errors import Conflict, DriverError, InvalidRequest, UnsupportedOperation
from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkSocket

from lab import GATEWAY, HOST, PARENT, SUBNET

if TYPE_CHECKING:
    from conftest import Rig


def test_a_parent_that_is_missing(rig: Rig) -> None:
    """The error names the links that there are; nothing of the network is kept."""
    with pytest.raises(InvalidRequest, match="the host has no link 'eth7'") as no:
        rig.network(SUBNET, options={"parent": "eth7"})
    assert no.value.hint == f"links of the host: {PARENT}"
    rig.network(SUBNET)  # the subnet is free


@pytest.mark.parametrize("name", ["", "x" * 16])
def test_a_parent_that_no_link_can_be(rig: Rig, name: str) -> None:
    """A name that is too long is like one that is missing; an empty one means no parent."""
    if name:
        with pytest.raises(InvalidRequest, match="the host has no link"):
            rig.network(options={"parent": name})
    else:
        rig.network(options={"parent": name})


def test_a_vlan_that_is_missing(rig: Rig) -> None:
    """The error says how to make it."""
    with pytest.raises(InvalidRequest) as no:
        rig.network(SUBNET, options={"parent": f"{PARENT}.50"})
    assert f"ip link add link {PARENT} name {PARENT}.50 type vlan id 50" in str(no.value.hint)


def test_the_loopback_is_no_parent(rig: Rig) -> None:
    """Docker's words for it."""
    with pytest.raises(InvalidRequest, match="loopback interface is not a valid macvlan parent"):
        rig.network(options={"parent": "lo"})


def test_a_port_of_a_bridge_is_no_parent(rig: Rig) -> None:
    """The network is refused at once, and not its first container."""
    bridge = rig.lab.make_bridge("br0")
    with NetlinkSocket(ROUTE) as netlink:
        pair = rtnl.create_veth(
            "port0",
            "eth9",
            peer_netns=rig.lab.outside,
            peer_mac="02:00:00:00:00:99",
            mtu=1500,
            master=bridge,
            group=0,
        )
        netlink.request([pair])
    with pytest.raises(Conflict, match="port0 is a port of a bridge"):
        rig.network(options={"parent": "port0"})
    rig.network(options={"parent": "br0"})


def test_a_parent_that_goes_and_comes_back(rig: Rig) -> None:
    """Meanwhile an attach says so, also after a restart; then the network is what it was."""
    network = rig.network(SUBNET)
    rig.lab.delete_link(PARENT)
    for _ in range(2):
        netns = rig.lab.namespace()
        with pytest.raises(InvalidRequest, match=f"the host has no link '{PARENT}'"):
            rig.attach(network, netns)
        assert set(rig.lab.links(netns)) == {"lo"}
        rig.restart()
    rig.lab.make_parent()
    rig.lab.give_address(rig.lab.outside, "eth0", f"{GATEWAY}/24")
    rig.lab.listen(rig.lab.outside, 7)
    assert rig.lab.reaches(rig.attach(network).netns, GATEWAY, 7)


def test_a_parent_that_is_down(rig: Rig) -> None:
    """The error says how to bring it up; nothing of the endpoint is left."""
    with NetlinkSocket(ROUTE) as netlink:
        pair = rtnl.create_veth(
            "down0",
            "eth9",
            peer_netns=rig.lab.outside,
            peer_mac="02:00:00:00:00:99",
            mtu=1500,
            master=0,
            group=0,
        )
        netlink.request([pair])
    network = rig.network(options={"parent": "down0"})
    netns = rig.lab.namespace()
    with pytest.raises(DriverError) as no:
        rig.attach(network, netns)
    assert no.value.hint == "bring it up: ip link set down0 up"
    assert set(rig.lab.links(netns)) == {"lo"}


def test_two_networks_on_one_parent(rig: Rig) -> None:
    """Each has its subnet and its way out; their containers are strangers on one wire."""
    rig.lab.give_address(rig.lab.outside, "eth0", "10.9.0.1/24")
    rig.lab.listen(rig.lab.outside, 7)
    one, other = rig.attach(rig.network(SUBNET)), rig.attach(rig.network("10.9.0.0/24"))
    assert (one.endpoint.gateway, other.endpoint.gateway) == (GATEWAY, "10.9.0.1")
    assert rig.lab.reaches(one.netns, GATEWAY, 7)
    assert rig.lab.reaches(other.netns, "10.9.0.1", 7)
    assert rig.lab.reaches(other.netns, GATEWAY, 7)
    rig.driver.remove_network(other.request.network)
    assert rig.lab.reaches(one.netns, GATEWAY, 7)


def test_a_mac_address_is_of_one_container_on_a_parent(rig: Rig) -> None:
    """Also of two networks; and it is not the parent's own. On another parent it is free."""
    mac = "02:42:00:00:00:07"
    first = rig.attach(rig.network(SUBNET), mac=mac)
    second = rig.network("10.9.0.0/24")
    with pytest.raises(Conflict, match=f"{first.request.container[:12]} has the MAC address {mac}"):
        rig.attach(second, mac=mac)
    with pytest.raises(Conflict, match="the parent itself has the MAC address"):
        rig.attach(second, mac=rig.lab.links()[PARENT].mac)
    assert rig.attach(rig.network(options={}), mac=mac).endpoint.mac == mac


# Networks that lead nowhere.


@pytest.mark.parametrize("wish", ["no parent", "internal"])
def test_a_private_network(rig: Rig, wish: str) -> None:
    """Its containers reach each other; nobody who is on the parent's network reaches them."""
    if wish == "internal":
        network = rig.network(SUBNET, internal=True)
    else:
        network = rig.network(SUBNET, options={})
    one, other = rig.attach(network), rig.attach(network)
    assert one.endpoint.gateway == ""
    rig.lab.listen(other.netns, 7)
    rig.lab.listen(rig.lab.outside, 7)
    assert rig.lab.reaches(one.netns, other.address, 7)
    assert rig.lab.misses(one.netns, GATEWAY, 7)
    assert rig.lab.misses(rig.lab.outside, other.address, 7)


def test_the_host_has_no_address_on_a_private_network(rig: Rig) -> None:
    """Its links are there and up, and the host has no address but those it had."""
    network = rig.network(options={}, ipv6=True)
    rig.attach(network)
    links = rig.lab.links()
    assert links[f"dm-{network.id[:12]}"].up
    assert links[f"dp-{network.id[:12]}"].up
    found = {one for one in rig.lab.addresses() if not one.startswith("fe80:")}
    assert found == {HOST}
    link_local = [one for one in rig.lab.addresses() if one.startswith("fe80:")]
    assert len(link_local) <= 1  # the parent's


def test_a_private_network_whose_link_was_deleted(rig: Rig) -> None:
    """The next container has it made anew, and so has a restart; removing it twice is no error."""
    network = rig.network(options={})
    link = f"dm-{network.id[:12]}"
    rig.lab.delete_link(link)
    rig.attach(network)
    assert rig.lab.links()[link].up
    rig.lab.delete_link(link)
    rig.restart([])
    assert rig.lab.links()[link].up
    for _ in range(2):
        rig.driver.remove_network(network)
    assert link not in rig.lab.links()


def test_there_is_no_network_but_those_of_users(rig: Rig) -> None:
    """What would be the driver's own is refused, with how a user makes one."""
    with pytest.raises(UnsupportedOperation) as no:
        rig.driver.create_network(NetworkSpec("macvlan", "macvlan"))
    assert "network create --driver macvlan -o parent=eth0" in str(no.value.hint)
