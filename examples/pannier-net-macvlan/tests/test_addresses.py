"""Addresses: which are given out, and that the network learns of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pannier.drivers.network import PortRequest, Subnet
from pannier.errors import Conflict, InvalidRequest, UnsupportedOperation
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.sysctl import read_sysctl

from lab import GATEWAY, HOST, PARENT, SUBNET
from pannier_net_macvlan.pools import open_pool

if TYPE_CHECKING:
    from conftest import Guest, Rig


def test_what_the_host_has_is_not_given_out(rig: Rig) -> None:
    """The host is on its parent's network, too; so is its gateway."""
    ranged = Subnet(SUBNET, GATEWAY, "198.51.100.0/29", ("198.51.100.3",))
    network = rig.network(ranged)
    given = [rig.attach(network).address for _ in range(4)]
    assert given == [f"198.51.100.{number}" for number in (4, 5, 6, 7)]
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        rig.attach(network)
    for taken in (HOST, "198.51.100.3", "198.51.100.4"):
        with pytest.raises(Conflict, match=f"Address already in use: {taken}"):
            rig.attach(network, address=taken)
    assert rig.attach(network, address="198.51.100.200").address == "198.51.100.200"


def test_an_address_rests_before_it_is_given_out_again(rig: Rig) -> None:
    """Machines of the network remember for a while whose it was."""
    network = rig.network(SUBNET)
    first = rig.attach(network)
    rig.detach(first)
    assert rig.attach(network).address != first.address


def test_the_next_owner_of_an_address_is_found_at_once(rig: Rig) -> None:
    """Though its MAC address is another: the neighbours are told."""
    network = rig.network(SUBNET)
    first = rig.attach(network, address="198.51.100.77", mac="02:42:00:00:00:01")
    rig.lab.listen(first.netns, 7)
    assert rig.lab.reaches(rig.lab.outside, "198.51.100.77", 7)
    rig.detach(first)
    second = rig.attach(network, address="198.51.100.77", mac="02:42:00:00:00:02")
    rig.lab.listen(second.netns, 7)
    assert rig.lab.reaches(rig.lab.outside, "198.51.100.77", 7, patience=0.9)


def test_the_link_of_a_container_that_ended_is_not_in_the_way(rig: Rig) -> None:
    """The kernel deletes it later than its namespace; who wants the MAC address waits for that."""
    network = rig.network(SUBNET)
    for _ in range(10):
        guest = rig.attach(network, address="198.51.100.77")
        rig.kill(guest)


def test_several_subnets(rig: Rig) -> None:
    """Addresses come from the first that has one; a chosen one brings its own way out."""
    small = Subnet("10.9.0.0/24", "10.9.0.1", "10.9.0.4/32")
    network = rig.network(small, Subnet("10.8.0.0/16", "10.8.0.254"))
    one, two = rig.attach(network), rig.attach(network)
    chosen = rig.attach(network, address="10.8.7.7")
    assert _where(one) == ("10.9.0.4", 24, "10.9.0.1")
    assert _where(two) == ("10.8.0.1", 16, "10.8.0.254")
    assert _where(chosen) == ("10.8.7.7", 16, "10.8.0.254")


def _where(guest: Guest) -> tuple[str, int, str]:
    return guest.address, guest.endpoint.prefix, guest.endpoint.gateway


def test_ipv6_is_chosen_or_unique_local(rig: Rig) -> None:
    """Both kinds work beside IPv4, with gateway and neighbours, and say no more than asked."""
    chosen = rig.network("10.9.0.0/24", Subnet("2001:db8:9::/64", "2001:db8:9::99"), ipv6=True)
    guest = rig.attach(chosen, address6="2001:db8:9::7")
    assert (guest.endpoint.gateway6, guest.endpoint.prefix6) == ("2001:db8:9::99", 64)
    other = rig.attach(chosen)
    rig.lab.listen(guest.netns, 7, "::")
    assert rig.lab.reaches(other.netns, "2001:db8:9::7", 7, patience=0.9)
    own = rig.attach(rig.network(ipv6=True))
    assert own.endpoint.address6.startswith("fd")
    with pytest.raises(InvalidRequest, match="is one of IPv6, which the network does not have"):
        rig.network("2001:db8:8::/64")


def test_without_ipv6_there_is_none(rig: Rig) -> None:
    """Not even a link-local address, by which the parent's network would be reached."""
    guest = rig.attach(rig.network(SUBNET))
    assert rig.lab.addresses(guest.netns) == {guest.address}


def test_a_routers_advertisements_are_not_heeded(rig: Rig) -> None:
    """With IPv6 as well the addresses and the way out are those of the network."""
    guest = rig.attach(rig.network(ipv6=True))
    with in_network_namespace(guest.netns):
        assert read_sysctl("net/ipv6/conf/eth0/accept_ra") == "0"


def test_link_local_addresses(rig: Rig) -> None:
    """An interface has those that are asked for; what is none is refused."""
    guest = rig.attach(rig.network(SUBNET), link_local=("169.254.7.7", "fe80::7"))
    assert {"169.254.7.7", "fe80::7"} <= rig.lab.addresses(guest.netns)
    with pytest.raises(InvalidRequest, match="invalid link-local IP address"):
        rig.attach(rig.network(), link_local=("10.0.0.1",))


@pytest.mark.parametrize(
    "wish",
    [
        {"mac": "01:00:00:00:00:01"},
        {"mac": "02:42:00:00:00"},
        {"interface": "a/b"},
        {"interface": "x" * 16},
        {"address": "2001:db8::1"},
    ],
)
def test_wishes_that_nobody_can_have(rig: Rig, wish: dict[str, str]) -> None:
    """A group's MAC address, a name of no link, an address of the other kind: all are named."""
    netns = rig.lab.namespace()
    with pytest.raises(InvalidRequest, match=r"invalid|cannot be"):
        rig.attach(rig.network(SUBNET), netns, **wish)
    assert set(rig.lab.links(netns)) == {"lo"}


def test_an_interface_that_is_there(rig: Rig) -> None:
    """Its name is a conflict, and the one that was first stays."""
    first = rig.attach(rig.network(SUBNET))
    with pytest.raises(Conflict, match="has an interface eth0 already"):
        rig.attach(rig.network(), first.netns, interface="eth0")
    assert rig.lab.links(first.netns)["eth0"].mac == first.endpoint.mac


def test_ports_are_refused(rig: Rig) -> None:
    """Nothing is silently left unpublished by the driver."""
    network = rig.network(SUBNET)
    with pytest.raises(UnsupportedOperation, match="publishes no ports") as no:
        rig.plan(network, rig.lab.namespace(), ports=(PortRequest(80),))
    assert "bridge" in str(no.value.hint)


@pytest.mark.parametrize(
    ("subnet", "complaint"),
    [
        (Subnet("10.9.0.0/33"), "invalid subnet"),
        (Subnet("10.9.0.1/24"), "invalid subnet"),
        (Subnet("10.9.0.0/31"), "no room"),
        (Subnet("10.9.0.0/24", "10.8.0.1"), "the gateway 10.8.0.1 is not within"),
        (Subnet("10.9.0.0/24", "here"), 'invalid gateway "here"'),
        (Subnet("10.9.0.0/24", None, "10.8.0.0/25"), "ip-range 10.8.0.0/25 is not within"),
        (Subnet("10.9.0.0/24", None, "fd00::/64"), "ip-range fd00::/64 is not within"),
        (Subnet("10.9.0.0/24", None, None, ("10.8.0.1",)), "aux-address 10.8.0.1 is not within"),
    ],
)
def test_subnets_that_cannot_be(subnet: Subnet, complaint: str) -> None:
    """Each is refused with what is wrong with it."""
    with pytest.raises(InvalidRequest, match=complaint):
        open_pool(subnet)


def test_networks_overlap_neither_each_other_nor_by_themselves(rig: Rig) -> None:
    """A subnet within another's is a conflict, of either version, also in one network."""
    rig.network("10.9.0.0/16", "fd00:9::/64", ipv6=True)
    for subnets in (
        ("10.9.8.0/24",),
        ("10.7.0.0/24", "fd00:9::/80"),
        ("10.6.0.0/16", "10.6.1.0/24"),
    ):
        with pytest.raises(Conflict, match="Pool overlaps"):
            rig.network(*subnets, ipv6=True)


def test_a_subnet_that_the_host_has_a_route_to_is_not_chosen(rig: Rig) -> None:
    """One that is asked for may be: the host is on its parent's network as well."""
    rig.lab.give_address(None, PARENT, "10.224.0.1/24")
    assert rig.network().subnets[0].subnet == "10.224.1.0/24"
    assert rig.network("10.224.0.0/24").subnets[0].subnet == "10.224.0.0/24"
