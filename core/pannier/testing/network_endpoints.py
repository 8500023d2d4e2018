"""What every network driver must hold: namespaces, networks, endpoints that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import (
    Endpoint,
    EndpointRequest,
    NetworkCapability,
    NetworkSpec,
    PortRequest,
)
from pannier.drivers.operations import Transaction
from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.testing.base import mandatory, refuses, requires
from pannier.testing.leaks import Watch, leaked, snapshot, wait_until
from pannier.testing.network_bench import NetworkTests, container_id

if TYPE_CHECKING:
    from pannier.drivers.operations import Timing
    from pannier.testing.network_bench import Guest, NetworkBench

__all__ = ["EndpointTests"]

_HERE = Watch(network=True)


class EndpointTests(NetworkTests):
    """Namespaces, networks and endpoints."""

    # Which namespace.

    @mandatory
    def test_the_namespace_is_one_of_three_kinds(self, bench: NetworkBench) -> None:
        """A container gets a new namespace, the host's, or that of a container that is named."""
        found = bench.driver.namespace(bench.argument)
        assert found.kind in ("new", "host", "container")
        assert bool(found.container) == (found.kind == "container")
        bench.opened.reopen()
        assert bench.driver.namespace(bench.argument) == found

    @mandatory
    @pytest.mark.parametrize("argument", ["", "x", "a b", "../x"])
    def test_any_argument_is_understood_or_refused(
        self, bench: NetworkBench, argument: str
    ) -> None:
        """What follows the driver's id is taken, or refused as an invalid request."""
        try:
            found = bench.driver.namespace(argument)
        except InvalidRequest:
            return
        assert found.kind in ("new", "host", "container")

    # Networks.

    @mandatory
    def test_the_predefined_network(self, bench: NetworkBench) -> None:
        """The network with the driver's own id can be created, unless users create theirs."""
        spec = NetworkSpec(bench.driver.id, bench.driver.id)
        try:
            made = bench.create(spec)
        except UnsupportedOperation:
            assert bench.declares(NetworkCapability.USER_DEFINED)
        else:
            assert (made.id, made.name) == (spec.id, spec.name)

    @mandatory
    def test_a_network_is_created_once(self, bench: NetworkBench) -> None:
        """A second call answers as the first, also after a restart, and changes nothing."""
        made = bench.network()
        before = bench.view()
        assert bench.driver.create_network(made) == made
        bench.opened.reopen()
        assert bench.driver.create_network(made) == made
        assert wait_until(lambda: bench.view() == before, bench.patience)

    @mandatory
    def test_a_removed_network_can_be_created_again(self, bench: NetworkBench) -> None:
        """Removing is idempotent, works for one that was never created, and is no farewell."""
        made = bench.network()
        for _ in range(2):
            bench.driver.remove_network(made)
        bench.driver.remove_network(bench.spec("unknown"))
        again = bench.create(made)
        bench.detach(bench.attach(again))

    @refuses(NetworkCapability.USER_DEFINED)
    def test_networks_of_users_are_refused(self, bench: NetworkBench) -> None:
        """Without the capability only the predefined network can be created."""
        with self.refused():
            bench.driver.create_network(NetworkSpec(container_id(), "mine"))

    # Endpoints.

    @mandatory
    def test_describing_reserves_nothing(self, bench: NetworkBench) -> None:
        """A plan without a namespace can be described, and nothing is done by that."""
        network = bench.network()
        before = snapshot(_HERE)
        plan = bench.driver.plan_attach(EndpointRequest(container_id(), network), None)
        for step in plan.describe():
            assert step.action
            assert step.subject
        assert plan.driver == bench.driver.id
        assert leaked(before, _HERE, patience=bench.patience) == []

    @mandatory
    def test_executed_steps_are_those_described(self, bench: NetworkBench) -> None:
        """A recorder is told of the steps that a plan described, with times that make sense."""
        request = EndpointRequest(container_id(), bench.network())
        plan = bench.driver.plan_attach(request, netns := bench.namespace())
        described = [step.action for step in plan.describe()]
        seen: list[str] = []

        class Recorder:
            def record(self, driver: str, timing: Timing) -> None:
                assert driver == plan.driver
                assert timing.begin <= timing.end
                seen.append(timing.step.action)

        Transaction(Recorder()).run(plan)
        bench.driver.detach(request, netns)
        assert set(seen) <= set(described)
        assert bool(seen) == bool(plan.operations)

    @mandatory
    def test_an_endpoint_is_what_the_namespace_has(self, bench: NetworkBench) -> None:
        """The answer names the network, and the interface, MAC and address that are inside."""
        network = bench.network()
        guest = bench.attach(network)
        assert guest.endpoint.network == network.id
        self._is_inside(bench, guest)

    @mandatory
    def test_loopback_works_in_a_new_namespace(self, bench: NetworkBench) -> None:
        """A container reaches itself by 127.0.0.1."""
        guest = bench.attach(bench.network())
        server = bench.lab.listen(guest.netns, 8000, "127.0.0.1")
        assert bench.lab.talk(server, guest.netns, "127.0.0.1", 8000) == "127.0.0.1"

    @mandatory
    def test_attaching_twice_is_one_endpoint(self, bench: NetworkBench) -> None:
        """A second attach of one container answers as the first and changes nothing."""
        guest = bench.attach(bench.network())
        before = set(bench.lab.links()), set(bench.lab.links(guest.netns))
        again = bench.opened.run(bench.driver.plan_attach(guest.request, guest.netns))
        assert again.endpoint == guest.endpoint
        assert again.descriptors == ()
        assert (set(bench.lab.links()), set(bench.lab.links(guest.netns))) == before
        self._is_inside(bench, guest)

    @mandatory
    def test_a_detached_endpoint_has_gone(self, bench: NetworkBench) -> None:
        """Host and namespace have the links that they had before; a second time is no error."""
        network = bench.network()
        netns = bench.namespace()
        before = set(bench.lab.links()), set(bench.lab.links(netns))
        guest = bench.attach(network, netns=netns)
        for _ in range(2):
            bench.detach(guest)
        assert wait_until(
            lambda: (set(bench.lab.links()), set(bench.lab.links(netns))) == before, bench.patience
        ), f"links are left: {sorted(bench.lab.links())}, inside {sorted(bench.lab.links(netns))}"

    @mandatory
    def test_a_container_can_come_again(self, bench: NetworkBench) -> None:
        """Detached and attached again, also into a new namespace, it has an endpoint as before."""
        network = bench.network()
        guest = bench.attach(network)
        bench.detach(guest)
        again = bench.attach(network, guest.request.container, netns=guest.netns)
        assert again.endpoint.interface == guest.endpoint.interface
        self._is_inside(bench, again)
        bench.detach(again)
        other = bench.attach(network, guest.request.container)
        self._is_inside(bench, other)

    @mandatory
    def test_detaching_what_was_never_attached(self, bench: NetworkBench) -> None:
        """It is no error, with a namespace and without one."""
        request = EndpointRequest(container_id(), bench.network())
        bench.driver.detach(request, None)
        bench.driver.detach(request, bench.namespace())

    @mandatory
    def test_many_containers_at_once(self, bench: NetworkBench) -> None:
        """Ten containers of one network have endpoints at the same time, and each can leave."""
        network = bench.network()
        guests = [bench.attach(network) for _ in range(10)]
        for guest in guests:
            self._is_inside(bench, guest)
        for guest in guests[::2]:
            bench.detach(guest)
        for guest in guests[1::2]:
            self._is_inside(bench, guest)

    # What is not offered.

    @refuses(NetworkCapability.PUBLISH)
    def test_published_ports_are_refused(self, bench: NetworkBench) -> None:
        """Without the capability a port is not silently left unpublished."""
        self._is_refused(bench, ports=(PortRequest(80),))

    @refuses(NetworkCapability.ADDRESSES)
    def test_chosen_addresses_are_refused(self, bench: NetworkBench) -> None:
        """Without the capability nobody chooses an address, IPv4 or IPv6."""
        self._is_refused(bench, address="10.201.0.9")
        self._is_refused(bench, address6="fd00:201::9")

    @refuses(NetworkCapability.ADDRESSES)
    def test_no_address_is_claimed(self, bench: NetworkBench) -> None:
        """A driver that gives no addresses answers with none."""
        network = bench.network()
        assert bench.attach(network).endpoint == Endpoint(network.id)

    @requires(NetworkCapability.USER_DEFINED)
    @refuses(NetworkCapability.IPV6)
    def test_ipv6_networks_are_refused(self, bench: NetworkBench) -> None:
        """Without the capability a network with IPv6 is not silently made without."""
        with self.refused():
            bench.network(ipv6=True)

    def _is_refused(self, bench: NetworkBench, **wishes: Any) -> None:
        network = bench.network()
        with self.refused():
            bench.attach(network, **wishes)

    # What the tests look at.

    def _is_inside(self, bench: NetworkBench, guest: Guest) -> None:
        """Assert that a container's namespace has what its endpoint says."""
        endpoint = guest.endpoint
        links = bench.lab.links(guest.netns)
        if bench.isolated:
            assert links["lo"].up, "the loopback link is down"
        if not endpoint.interface:
            assert (endpoint.address, endpoint.mac) == ("", ""), "an address of no interface"
            return
        link = links[endpoint.interface]
        assert link.up, f"{link.name} is down"
        assert link.mac == endpoint.mac
        expected = {
            f"{address}/{prefix}"
            for address, prefix in (
                (endpoint.address, endpoint.prefix),
                (endpoint.address6, endpoint.prefix6),
            )
            if address
        }
        assert bench.lab.addresses(guest.netns, link.name) == expected
