"""What goes wrong around a network driver: failures, kills, things that vanish, restarts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.network import EndpointRequest, NetworkCapability, PortRequest
from pannier.drivers.operations import Action, Step
from pannier.errors import Conflict, PannierError
from pannier.testing.base import mandatory, requires
from pannier.testing.faults import kill_after_operations
from pannier.testing.leaks import wait_until
from pannier.testing.network_bench import NetworkTests, container_id

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.drivers.network import Attachment, NetworkDriver, NetworkSpec
    from pannier.drivers.operations import Plan
    from pannier.testing.network_bench import Guest, NetworkBench

__all__ = ["FaultTests"]

_ADDRESSES = NetworkCapability.ADDRESSES
_USER_DEFINED = NetworkCapability.USER_DEFINED


class FaultTests(NetworkTests):
    """What a driver holds when things go wrong."""

    @mandatory
    def test_a_failure_in_any_step_leaves_nothing(self, bench: NetworkBench) -> None:
        """Whichever operation fails, or what follows them: no link, rule or port stays."""
        network = bench.network()
        request = self._request(bench, network)
        count = len(bench.driver.plan_attach(request, None).operations)

        def fail() -> None:
            raise RuntimeError("injected")

        for position in range(count + 1):
            netns = bench.namespace()
            before = bench.view()
            plan = bench.driver.plan_attach(request, netns)
            plan.operations.insert(position, Action(Step("fail", "here"), fail))
            with pytest.raises(RuntimeError, match="injected"):
                bench.opened.run(plan)
            assert bench.left(before) == [], f"after a failure before operation {position}"
        bench.attach(network, ports=request.ports)

    @mandatory
    def test_a_kill_between_any_two_steps_leaves_nothing(self, bench: NetworkBench) -> None:
        """Wherever the daemon was killed, the next one finds what is there and removes it."""
        network = bench.network()
        request = self._request(bench, network)
        before = bench.view()
        count, was_killed = 0, True
        while was_killed:
            netns = bench.namespace()

            def plan(driver: NetworkDriver, netns: int = netns) -> Plan[Attachment]:
                driver.create_network(network)
                return driver.plan_attach(request, netns)

            was_killed = kill_after_operations(bench.opened, plan, count)
            bench.lab.destroy(netns)
            bench.recover([])
            assert bench.left(before) == [], f"after a kill behind {count} operations"
            count += 1
        bench.attach(network, ports=request.ports)

    @mandatory
    def test_detach_after_the_namespace_has_gone(self, bench: NetworkBench) -> None:
        """A container that died has its endpoint taken away all the same."""
        network = bench.network()
        before = bench.view()
        guest = bench.attach(network, ports=self._ports(bench))
        bench.kill(guest)
        for _ in range(2):
            bench.detach(guest)
        assert bench.left(before) == []

    @mandatory
    def test_detach_after_the_links_have_gone(self, bench: NetworkBench) -> None:
        """Somebody's ``ip link delete`` of all that the driver made keeps nothing from ending."""
        lab = bench.lab
        before = set(lab.links())
        network = bench.network()
        netns = bench.namespace()
        inside = set(lab.links(netns))
        guest = bench.attach(network, netns=netns, ports=self._ports(bench))
        for name in set(lab.links()) - before:
            lab.delete_link(name)
        for _ in range(2):
            bench.detach(guest)
        assert wait_until(lambda: set(lab.links(netns)) == inside, bench.patience)

    @mandatory
    def test_detach_after_the_interface_has_gone(self, bench: NetworkBench) -> None:
        """A container may have deleted its own interface."""
        network = bench.network()
        before = bench.view()
        guest = bench.attach(network, ports=self._ports(bench))
        if guest.endpoint.interface:
            bench.lab.delete_link(guest.endpoint.interface, guest.netns)
        for _ in range(2):
            bench.detach(guest)
        assert bench.left(before) == []

    @requires(_USER_DEFINED)
    def test_a_vanished_network_is_mended_or_named(self, bench: NetworkBench) -> None:
        """After the driver's links were deleted an attach works again, or says what is wrong."""
        before = set(bench.lab.links())
        network = bench.network()
        for name in set(bench.lab.links()) - before:
            bench.lab.delete_link(name)
        try:
            guest = bench.attach(network)
        except PannierError:
            return
        assert bench.lab.links(guest.netns)[guest.endpoint.interface].up

    @mandatory
    def test_a_descriptor_that_is_no_namespace(self, bench: NetworkBench, place: Path) -> None:
        """It is refused as the driver's own error, and nothing is left."""
        network = bench.network()
        before = bench.view()
        descriptor = os.open(place, os.O_RDONLY)
        try:
            plan = bench.driver.plan_attach(EndpointRequest(container_id(), network), descriptor)
            if plan.operations:
                with pytest.raises(PannierError):
                    bench.opened.run(plan)
        finally:
            os.close(descriptor)
        assert bench.left(before) == []

    # Restarts.

    @mandatory
    def test_a_restart_changes_nothing_for_the_running(self, bench: NetworkBench) -> None:
        """The endpoint of a container that runs is held: link, address, and its end as ever."""
        network = bench.network()
        guest = bench.attach(network)
        inside = bench.lab.links(guest.netns)
        bench.restart()
        assert bench.lab.links(guest.netns) == inside
        again = bench.opened.run(bench.driver.plan_attach(guest.request, guest.netns))
        assert again.endpoint == guest.endpoint

    @mandatory
    def test_a_restart_releases_what_is_not_listed(self, bench: NetworkBench) -> None:
        """Containers that ended meanwhile have nothing on the host any more."""
        network = bench.network()
        before = bench.view()
        died = bench.attach(network, ports=self._ports(bench))
        bench.kill(died)
        bench.restart([])
        assert bench.left(before) == []

    @mandatory
    @requires(_ADDRESSES)
    def test_addresses_are_held_over_a_restart(self, bench: NetworkBench) -> None:
        """What a running container has is given to nobody else."""
        network = bench.network()
        held = {bench.attach(network).address for _ in range(3)}
        bench.restart()
        fresh = {bench.attach(network).address for _ in range(3)}
        assert held & fresh == set()

    @requires(_ADDRESSES, _USER_DEFINED)
    def test_the_engines_word_is_enough(self, bench: NetworkBench, place: Path) -> None:
        """With the driver's own records lost, a listed endpoint is held all the same."""
        network = bench.network()
        guest = bench.attach(network)
        bench.driver.close()
        _empty(place / "root")
        bench.opened.driver = bench.opened.another()
        bench.recover()
        self._is_taken(bench, guest)
        bench.detach(guest)
        assert bench.attach(network, address=guest.address).address == guest.address

    @requires(_ADDRESSES, _USER_DEFINED)
    def test_a_released_address_can_be_had(self, bench: NetworkBench) -> None:
        """Of two containers one is listed after a restart: its address is held, the other's not."""
        network = bench.network()
        lives, died = bench.attach(network), bench.attach(network)
        bench.kill(died)
        bench.restart([lives])
        self._is_taken(bench, lives)
        assert bench.attach(network, address=died.address).address == died.address

    # What the tests share.

    def _ports(self, bench: NetworkBench) -> tuple[PortRequest, ...]:
        """Return ports to publish, where the driver does that."""
        if not bench.declares(NetworkCapability.PUBLISH):
            return ()
        return (PortRequest(80, host_ports=(8080, 8080)), PortRequest(53, "udp"))

    def _request(self, bench: NetworkBench, network: NetworkSpec) -> EndpointRequest:
        return EndpointRequest(container_id(), network, ports=self._ports(bench))

    def _is_taken(self, bench: NetworkBench, guest: Guest) -> None:
        with pytest.raises(Conflict):
            bench.attach(guest.request.network, address=guest.address)


def _empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
