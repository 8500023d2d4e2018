"""Addresses and what is reached by them, users' networks, and endpoints of running containers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.network import NetworkCapability, Subnet
from pannier.errors import Conflict, InvalidRequest
from pannier.testing.base import mandatory, requires
from pannier.testing.leaks import wait_until
from pannier.testing.network_bench import NetworkTests, container_id
from pannier.testing.network_lab import OUTSIDE_ADDRESS

if TYPE_CHECKING:
    from pannier.testing.network_bench import Guest, NetworkBench

__all__ = ["AddressTests"]

_ADDRESSES = NetworkCapability.ADDRESSES
_IPV6 = NetworkCapability.IPV6
_LIVE = NetworkCapability.LIVE
_USER_DEFINED = NetworkCapability.USER_DEFINED

_CROWD = 20
_PORT = 8000

_FIRST = Subnet("10.201.0.0/24", gateway="10.201.0.1")
_SECOND = Subnet("10.202.0.0/24", gateway="10.202.0.1")
_SIX = Subnet("fd00:201::/64", gateway="fd00:201::1")


class AddressTests(NetworkTests):
    """What a driver holds that gives addresses."""

    @mandatory
    @requires(_ADDRESSES)
    def test_an_address_is_of_the_networks_subnet(self, bench: NetworkBench) -> None:
        """The network's subnet was filled in; address, prefix and gateway are of it."""
        network = bench.network()
        endpoint = bench.attach(network).endpoint
        subnets = [ip_network(one.subnet) for one in network.subnets]
        assert subnets, "the created network has no subnet"
        (subnet,) = (one for one in subnets if ip_address(endpoint.address) in one)
        assert endpoint.prefix == subnet.prefixlen
        assert endpoint.address not in (str(subnet[0]), str(subnet[-1]), endpoint.gateway)
        assert not endpoint.gateway or ip_address(endpoint.gateway) in subnet

    @mandatory
    @requires(_ADDRESSES)
    def test_two_containers_reach_one_another(self, bench: NetworkBench) -> None:
        """They talk both ways, and each sees the other's own address."""
        network = bench.network()
        one, other = bench.attach(network), bench.attach(network)
        self._talk(bench, one, other)
        self._talk(bench, other, one)

    @mandatory
    @requires(_ADDRESSES)
    def test_the_first_packet_arrives(self, bench: NetworkBench) -> None:
        """From the moment an attach returns nothing is lost."""
        network = bench.network()
        server = bench.attach(network)
        bench.lab.listen(server.netns, _PORT)
        for _ in range(5):
            guest = bench.attach(network)
            # TCP asks again only after a second.
            bench.lab.connect(guest.netns, server.address, _PORT, patience=0.9).close()
            bench.detach(guest)

    @requires(_ADDRESSES)
    def test_the_default_route_leads_out(self, bench: NetworkBench) -> None:
        """By the gateway an endpoint reaches a neighbour of the host; it has no other route."""
        guest = bench.attach(bench.network())
        (route,) = bench.lab.default_routes(guest.netns)
        assert route == (guest.endpoint.gateway, guest.endpoint.interface)
        server = bench.lab.listen(bench.lab.outside, _PORT)
        assert bench.lab.talk(server, guest.netns, OUTSIDE_ADDRESS, _PORT)

    @requires(_ADDRESSES)
    def test_no_default_route_without_being_asked(self, bench: NetworkBench) -> None:
        """An endpoint that is not to be the way out has its subnet's route alone."""
        network = bench.network()
        guest = bench.attach(network, default_route=False)
        assert bench.lab.default_routes(guest.netns) == []
        self._talk(bench, guest, bench.attach(network))

    @mandatory
    @requires(_ADDRESSES)
    def test_twenty_threads_get_twenty_addresses(self, bench: NetworkBench) -> None:
        """No address is given out twice, whoever asks at the same time; and all can leave."""
        network = bench.network()
        with ThreadPoolExecutor(_CROWD) as pool:
            guests = list(pool.map(lambda _: bench.attach(network), range(_CROWD)))
            assert len({guest.address for guest in guests}) == _CROWD
            assert len({guest.endpoint.mac for guest in guests}) == _CROWD
            list(pool.map(bench.detach, guests))

    @mandatory
    @requires(_ADDRESSES, _USER_DEFINED)
    def test_a_chosen_address(self, bench: NetworkBench) -> None:
        """The user's wish is what the container gets, and it is reached there."""
        network = bench.network(subnets=(_FIRST,))
        chosen = bench.attach(network, address="10.201.0.77")
        assert chosen.address == "10.201.0.77"
        self._talk(bench, bench.attach(network), chosen)

    @mandatory
    @requires(_ADDRESSES, _USER_DEFINED)
    def test_one_address_and_twenty_who_want_it(self, bench: NetworkBench) -> None:
        """One gets it; the others are told of the conflict, and have nothing."""
        network = bench.network(subnets=(_FIRST,))

        def wish(_: int) -> Guest | None:
            try:
                return bench.attach(network, address="10.201.0.77")
            except Conflict:
                return None

        with ThreadPoolExecutor(_CROWD) as pool:
            lucky = [guest for guest in pool.map(wish, range(_CROWD)) if guest is not None]
        assert [guest.address for guest in lucky] == ["10.201.0.77"]
        bench.detach(lucky[0])
        assert bench.attach(network, address="10.201.0.77").address == "10.201.0.77"

    @requires(_ADDRESSES, _USER_DEFINED)
    @pytest.mark.parametrize("address", ["10.201.0.1", "10.9.9.9", "nonsense"])
    def test_addresses_that_nobody_can_have(self, bench: NetworkBench, address: str) -> None:
        """The gateway's, another subnet's and a malformed one are refused; nothing is left."""
        network = bench.network(subnets=(_FIRST,))
        before = bench.view()
        with pytest.raises((InvalidRequest, Conflict)):
            bench.attach(network, address=address)
        assert bench.left(before) == []

    @requires(_ADDRESSES, _USER_DEFINED)
    def test_a_range_is_kept_to_and_runs_out(self, bench: NetworkBench) -> None:
        """Addresses come from the range, never a reserved one; when none is left, that is said."""
        subnet = Subnet(
            "10.201.0.0/24",
            gateway="10.201.0.1",
            ip_range="10.201.0.128/30",
            reserved=("10.201.0.130",),
        )
        network = bench.network(subnets=(subnet,))
        with pytest.raises(Conflict):
            _crowd = [bench.attach(network) for _ in range(5)]
        given = {guest.address for guest in bench.guests}
        assert given <= {"10.201.0.128", "10.201.0.129", "10.201.0.131"}
        assert len(given) >= 2
        bench.detach(bench.guests[0])
        assert bench.attach(network).address == bench.guests[0].address

    @requires(_ADDRESSES)
    def test_a_chosen_mac_and_interface(self, bench: NetworkBench) -> None:
        """The interface has the MAC address and the name that were asked for."""
        guest = bench.attach(bench.network(), mac="02:42:00:00:00:07", interface="wan5")
        assert (guest.endpoint.interface, guest.endpoint.mac) == ("wan5", "02:42:00:00:00:07")
        assert bench.lab.links(guest.netns)["wan5"].mac == "02:42:00:00:00:07"

    # Networks of users.

    @requires(_ADDRESSES, _USER_DEFINED)
    def test_networks_have_subnets_of_their_own(self, bench: NetworkBench) -> None:
        """Two networks that leave the choice to the driver do not overlap."""
        one, other = bench.network("one"), bench.network("other")
        for mine in one.subnets:
            for theirs in other.subnets:
                assert not ip_network(mine.subnet).overlaps(ip_network(theirs.subnet))

    @requires(_ADDRESSES, _USER_DEFINED)
    def test_an_overlap_is_a_conflict(self, bench: NetworkBench) -> None:
        """A subnet that another network has is refused, and the other network goes on."""
        first = bench.network("first", subnets=(_FIRST,))
        spec = bench.spec("second", subnets=(Subnet("10.201.0.0/16"),))
        with pytest.raises(Conflict):
            bench.driver.create_network(spec)
        self._talk(bench, bench.attach(first), bench.attach(first))

    @requires(_ADDRESSES, _USER_DEFINED)
    def test_an_internal_network_leads_nowhere(self, bench: NetworkBench) -> None:
        """Its containers reach one another, and nobody outside of the host."""
        network = bench.network(internal=True, subnets=(_FIRST,))
        one, other = bench.attach(network), bench.attach(network)
        self._talk(bench, one, other)
        bench.lab.listen(bench.lab.outside, _PORT)
        assert not bench.lab.reaches(one.netns, OUTSIDE_ADDRESS, _PORT)

    # Running containers.

    @requires(_LIVE, _USER_DEFINED, _ADDRESSES)
    def test_a_second_network_while_it_runs(self, bench: NetworkBench) -> None:
        """A connection on the first goes on while a second network comes and goes."""
        first = bench.network("first", subnets=(_FIRST,))
        second = bench.network("second", subnets=(_SECOND,))
        guest, peer = bench.attach(first), bench.attach(first)
        server = bench.lab.listen(peer.netns, _PORT)
        client = bench.lab.connect(guest.netns, peer.address, _PORT)
        connection, _ = server.accept()
        with connection:
            live = bench.attach(
                second, guest.request.container, netns=guest.netns, default_route=False
            )
            assert live.endpoint.interface != guest.endpoint.interface
            (route,) = bench.lab.default_routes(guest.netns)
            assert route[1] == guest.endpoint.interface
            self._talk(bench, bench.attach(second), live)
            bench.detach(live)
            client.sendall(b"still here")
            assert connection.recv(100) == b"still here"
        assert wait_until(
            lambda: set(bench.lab.links(guest.netns)) == {"lo", guest.endpoint.interface},
            self.patience,
        )

    # IPv6.

    @requires(_IPV6, _ADDRESSES)
    def test_ipv6_beside_ipv4(self, bench: NetworkBench) -> None:
        """A network with IPv6 gives both addresses, and containers talk by either."""
        network = bench.network(ipv6=True)
        assert any(":" in one.subnet for one in network.subnets)
        one, other = bench.attach(network), bench.attach(network)
        assert one.endpoint.address6 != other.endpoint.address6
        self._talk(bench, one, other)
        server = bench.lab.listen(other.netns, _PORT + 6, "::")
        peer = bench.lab.talk(server, one.netns, other.endpoint.address6, _PORT + 6)
        assert peer == one.endpoint.address6

    @requires(_IPV6, _ADDRESSES, _USER_DEFINED)
    def test_a_chosen_ipv6_address(self, bench: NetworkBench) -> None:
        """It is given, once."""
        network = bench.network(ipv6=True, subnets=(_FIRST, _SIX))
        guest = bench.attach(network, address6="fd00:201::77")
        assert guest.endpoint.address6 == "fd00:201::77"
        with pytest.raises(Conflict):
            bench.attach(network, address6="fd00:201::77")

    @requires(_IPV6)
    def test_no_ipv6_without_being_asked(self, bench: NetworkBench) -> None:
        """A network without IPv6 gives none, and a wish for an address of it is refused."""
        network = bench.network()
        assert bench.attach(network).endpoint.address6 == ""
        with self.refused():
            bench.attach(network, container_id(), address6="fd00:201::77")

    def _talk(self, bench: NetworkBench, client: Guest, server: Guest) -> None:
        """Have two containers exchange bytes; the server sees the client's own address."""
        listening = bench.lab.listen(server.netns, 0)
        port = listening.getsockname()[1]
        assert bench.lab.talk(listening, client.netns, server.address, port) == client.address
