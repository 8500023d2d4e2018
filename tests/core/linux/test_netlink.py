"""Netlink: encoding, batches, errors, links, addresses, routes and nf_tables, by doing them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import threading
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest

from pannier.linux import netlink as nl
from pannier.linux import nftables as nft
from pannier.linux import nftexpr as expr
from pannier.linux import nftlist, rtnl
from pannier.linux.carrier import settle_carrier
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, setns, unshare
from pannier.linux.netlink import NETFILTER, ROUTE, NetlinkError, NetlinkSocket
from pannier.linux.sysctl import read_sysctl, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Iterator

MAC = "02:42:00:00:00:01"


@pytest.fixture
def _netns() -> Iterator[None]:
    """Put the test's thread in a new network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(CLONE_NEWNET)
    yield
    setns(home, CLONE_NEWNET)
    os.close(home)


@pytest.fixture
def route(_netns: None) -> Iterator[NetlinkSocket]:
    """Open a socket for links, addresses and routes."""
    with NetlinkSocket(ROUTE) as opened:
        yield opened


@pytest.fixture
def netfilter(_netns: None) -> Iterator[NetlinkSocket]:
    """Open a socket for nf_tables."""
    with NetlinkSocket(NETFILTER) as opened:
        yield opened


def nft_json() -> list[dict[str, Any]]:
    """Return nft's view of the rules."""
    if shutil.which("nft") is None:
        pytest.skip("nft is not here: apt-get install nftables")
    done = subprocess.run(
        ["nft", "-j", "list", "ruleset"], check=True, capture_output=True, timeout=10
    )
    listed: list[dict[str, Any]] = json.loads(done.stdout)["nftables"][1:]
    return listed


@pytest.mark.parametrize("value", [b"", b"a", b"ab", b"abc", b"abcd", b"abcde"])
def test_attributes_are_padded_to_four_bytes(value: bytes) -> None:
    """The length is that of the value, the next attribute begins at a multiple of four."""
    encoded = nl.attribute(7, value)

    assert len(encoded) % 4 == 0
    assert struct.unpack_from("=HH", encoded) == (4 + len(value), 7)
    assert nl.parse(encoded + nl.u32(8, 9)) == {7: value, 8: struct.pack("=I", 9)}


def test_nested_attributes_are_found_without_their_flag() -> None:
    """The kernel's flag of nesting is not part of the type."""
    encoded = nl.nested(3, nl.text(1, "x"), nl.be16(2, 80))

    assert nl.parse(nl.parse(encoded)[3]) == {1: b"x\0", 2: b"\0P"}


@pytest.mark.parametrize("cut", range(16))
def test_cut_attributes_end_quietly(cut: int) -> None:
    """Rubbish at the end is no endless loop and no exception; what is whole is found."""
    found = nl.parse((nl.u32(1, 2) + nl.u32(3, 4))[:cut])

    assert (found.get(1) == struct.pack("=I", 2)) == (cut >= 8)
    assert nl.parse(bytes(12)) == {}


@pytest.mark.root
def test_links_addresses_and_routes(route: NetlinkSocket) -> None:
    """What was made is found again as it was made."""
    route.request([rtnl.create_bridge("br0", MAC, 1400), rtnl.set_alias("br0", "words")])
    link = rtnl.find_link(route, "br0")
    assert link is not None
    assert (link.kind, link.mac, link.mtu, link.up) == ("bridge", MAC, 1400, False)
    assert link.alias == "words"
    assert rtnl.find_link(route, "br1") is None

    address = IPv4Interface("10.1.0.1/24")
    route.request(
        [
            rtnl.add_address(link.index, address),
            rtnl.add_address(link.index, address),
            rtnl.set_up(link.index),
            rtnl.add_route(link.index, IPv4Address("10.1.0.254")),
            rtnl.add_route(link.index, IPv4Address("10.1.0.9"), IPv4Network("10.2.0.0/16")),
        ]
    )
    assert rtnl.addresses(route) == [rtnl.Address(link.index, address)]
    assert {(str(one.destination), str(one.gateway)) for one in rtnl.routes(route)} == {
        ("10.1.0.0/24", "None"),
        ("0.0.0.0/0", "10.1.0.254"),
        ("10.2.0.0/16", "10.1.0.9"),
    }
    route.request([rtnl.delete_address(link.index, address)])
    assert rtnl.addresses(route) == []
    route.request([rtnl.delete_link("br0")])
    assert {one.name for one in rtnl.links(route)} == {"lo"}


@pytest.mark.root
def test_a_peer_is_born_in_its_namespace(route: NetlinkSocket) -> None:
    """The pair is made in one message; one end is a port of the bridge, the other elsewhere."""
    opened: list[int] = []

    def elsewhere() -> None:
        unshare(CLONE_NEWNET)
        opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    (netns,) = opened
    with in_network_namespace(netns):
        inside = NetlinkSocket(ROUTE)
    route.request([rtnl.create_bridge("br0", MAC, 1500)])
    bridge = rtnl.find_link(route, "br0")
    assert bridge is not None
    veth = rtnl.create_veth(
        "v0", "eth0", peer_netns=netns, peer_mac=MAC, mtu=1400, master=bridge.index, group=5
    )
    route.request([veth, rtnl.set_bridge_port("v0", hairpin=True, isolated=True)])

    outer, inner = rtnl.find_link(route, "v0"), rtnl.find_link(inside, "eth0")
    assert outer is not None
    assert inner is not None
    assert (outer.master, outer.group, outer.mtu, outer.up) == (bridge.index, 5, 1400, True)
    assert (inner.mac, inner.mtu, inner.up) == (MAC, 1400, False)
    assert not settle_carrier(route, "v0")
    inside.request([rtnl.set_up(inner.index)])
    assert settle_carrier(route, "v0")
    assert settle_carrier(inside, "eth0")
    route.request([rtnl.delete_group(5)])
    with pytest.raises(OSError, match="No such device"):
        settle_carrier(route, "v0")
    assert rtnl.find_link(inside, "eth0") is None
    inside.close()
    os.close(netns)


@pytest.mark.root
def test_the_first_failure_of_a_batch_is_raised(route: NetlinkSocket) -> None:
    """Later messages are tried all the same; the socket goes on working."""
    with pytest.raises(NetlinkError) as caught:
        route.request(
            [
                rtnl.delete_link("nobody"),
                rtnl.create_bridge("br0", MAC, 1500),
                rtnl.create_bridge("br0", MAC, 1500),
            ]
        )
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(NetlinkError) as caught:
        route.request([rtnl.create_bridge("br0", MAC, 1500)])
    assert caught.value.errno == errno.EEXIST
    route.request([])
    route.request([rtnl.delete_link("br0")])


@pytest.mark.root
def test_the_kernels_own_words_are_in_the_error(route: NetlinkSocket) -> None:
    """Where the kernel explains itself, the reader gets to know."""
    route.request([rtnl.set_up(1)])
    with pytest.raises(NetlinkError, match=r"\(.*gateway.*\)"):
        route.request([rtnl.add_route(1, IPv4Address("203.0.113.1"))])


@pytest.mark.root
def test_a_dump_of_many_links_is_whole(route: NetlinkSocket) -> None:
    """More than fits one answer."""
    route.request([rtnl.create_bridge(f"br{number}", MAC, 1500) for number in range(120)])
    assert len(rtnl.links(route)) == 121


@pytest.mark.root
def test_a_transaction_holds_as_a_whole_or_not_at_all(netfilter: NetlinkSocket) -> None:
    """One refused message undoes the others, and is the error."""
    before = nftlist.generation(netfilter)
    with pytest.raises(NetlinkError) as caught:
        nft.commit(
            netfilter, [nft.add_table(nft.IPV4, "t"), nft.delete_chain(nft.IPV4, "t", "none")]
        )
    assert caught.value.errno == errno.ENOENT
    assert nft_json() == []
    assert nftlist.generation(netfilter) == before
    nft.commit(netfilter, [nft.add_table(nft.IPV4, "t")])
    assert nftlist.generation(netfilter) == before + 1


@pytest.mark.root
def test_rules_are_what_nft_reads(netfilter: NetlinkSocket) -> None:
    """Chain, match, comment and verdict, as another program sees them; removed by handle."""
    base = nft.BaseChain("filter", nft.FORWARD, -5, nft.DROP)
    match = [*expr.interface(expr.META_IIFNAME, "br0"), expr.counter(), expr.verdict(nft.ACCEPT)]
    nft.commit(
        netfilter,
        [
            nft.add_table(nft.IPV4, "t"),
            nft.add_chain(nft.IPV4, "t", "c", base),
            nft.add_rule(nft.IPV4, "t", "c", [expr.verdict(nft.DROP)], comment="last"),
            nft.add_rule(nft.IPV4, "t", "c", match, comment="first", first=True),
        ],
    )
    listed = nft_json()
    chain = next(one["chain"] for one in listed if "chain" in one)
    assert (chain["hook"], chain["prio"], chain["policy"]) == ("forward", -5, "drop")
    assert [one["rule"]["comment"] for one in listed if "rule" in one] == ["first", "last"]
    (found,) = nftlist.chains(netfilter, nft.IPV4)
    assert (found.name, found.hook, found.policy) == ("c", nft.FORWARD, nft.DROP)
    first, last = nftlist.rules(netfilter, nft.IPV4, "t", "c")
    assert (first.comment, last.comment) == ("first", "last")
    assert nftlist.verdict_code(last.expressions[-1][1]) == nft.DROP

    nft.commit(netfilter, [nft.delete_rule(nft.IPV4, "t", "c", first.handle)])
    assert [one.comment for one in nftlist.rules(netfilter, nft.IPV4, "t", "c")] == ["last"]


@pytest.mark.root
def test_maps_add_delete_and_list_their_elements(netfilter: NetlinkSocket) -> None:
    """By key, repeatably; more of them than fit one message."""
    key, value = (nft.TYPE_PROTOCOL, nft.TYPE_SERVICE), (nft.TYPE_IPV4, nft.TYPE_SERVICE)
    found = [
        nft.Element(struct.pack(">B3xH2x", 6, port), bytes(4) + struct.pack(">H2x", port))
        for port in range(1, 2001)
    ]
    nft.commit(
        netfilter,
        [nft.add_table(nft.IPV4, "t"), nft.add_map(nft.IPV4, "t", "m", key, value)],
    )
    for _ in range(2):
        nft.commit(netfilter, nft.add_elements(nft.IPV4, "t", "m", found))
    assert sorted(nftlist.elements(netfilter, nft.IPV4, "t", "m"), key=lambda one: one.key) == found

    nft.commit(netfilter, nft.delete_elements(nft.IPV4, "t", "m", found[1:]))
    assert nftlist.elements(netfilter, nft.IPV4, "t", "m") == found[:1]
    other = nft.Element(found[0].key, bytes(8))
    with pytest.raises(NetlinkError) as caught:
        nft.commit(netfilter, nft.add_elements(nft.IPV4, "t", "m", [other]))
    assert caught.value.errno == errno.EEXIST
    nft.commit(netfilter, [nft.flush_map(nft.IPV4, "t", "m")])
    assert nftlist.elements(netfilter, nft.IPV4, "t", "m") == []
    assert nftlist.elements(netfilter, nft.IPV4, "t", "none") == []


@pytest.mark.root
@pytest.mark.usefixtures("_netns")
def test_parameters_are_written_only_where_they_differ() -> None:
    """And say whether they were."""
    assert write_sysctl("net/ipv4/ip_forward", "1")
    assert not write_sysctl("net/ipv4/ip_forward", "1")
    assert read_sysctl("net/ipv4/ip_forward") == "1"
