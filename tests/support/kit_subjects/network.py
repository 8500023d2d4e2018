"""What the network kit is tried on: drivers that each break the contract once.

Not collected by itself: ``test_other_kits`` runs it, and reads how each test went. Each class says
in *meant* which test must fail, and in *because* what that test must say.
"""

# ruff: noqa: D101, D106, N801 - what each class breaks, its name and *because* say

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
)
from pannier.drivers.operations import Action, Plan, Step
from pannier.errors import DriverError, NotFound
from pannier.linux.mounts import MS_BIND, mount
from pannier.linux.namespaces import CLONE_NEWNET, unshare
from pannier.testing.network import NetworkConformance
from pannier_net_bridge.config import BridgeConfig
from pannier_net_bridge.driver import BridgeDriver
from pannier_net_none.driver import NoneDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from pannier.drivers.network import PortBinding

pytest_plugins = "pannier.testing.plugin"


class Subject(NetworkConformance):
    """The kit with a driver that a subclass names."""

    driver: ClassVar[type[NetworkDriver]]
    patience = 0.5

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], NetworkDriver]:
        config = BridgeConfig() if issubclass(self.driver, BridgeDriver) else NoConfig()
        return lambda context: self.driver(context, config)


class TestGivesAnAddressTwice(Subject):
    meant, because = "test_twenty_threads_get_twenty_addresses", "== 20"

    class driver(BridgeDriver):
        def __init__(self, context: DriverContext, config: BridgeConfig) -> None:
            super().__init__(context, config)
            self._leases.reserve = lambda *_: IPv4Address("172.17.0.9")  # type: ignore[method-assign]


class TestLeavesARuleBehind(Subject):
    meant, because = "test_detach_after_the_namespace_has_gone", "element ip pannier ports_any"

    class driver(BridgeDriver):
        def detach(self, request: EndpointRequest, netns: int | None) -> None:
            self._firewall.withdraw = self.pass_over  # type: ignore[method-assign]
            super().detach(request, netns)

        def pass_over(self, ports: Any) -> None:
            """Do nothing."""


class TestLeavesALinkBehind(Subject):
    meant, because = "test_a_detached_endpoint_has_gone", "links are left: .*veth"

    class driver(BridgeDriver):
        def detach(self, request: EndpointRequest, netns: int | None) -> None:
            self._reaper.delete = lambda *_, **__: None  # type: ignore[method-assign]
            super().detach(request, netns)


class WithOneMoreNamespace(BridgeDriver):
    """Makes a network namespace for each endpoint, and forgets it."""

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        plan = super().plan_attach(request, netns)
        plan.operations.append(Action(Step("make", "a namespace"), self.make_namespace))
        return plan

    def make_namespace(self) -> None:
        made = threading.Event()
        threading.Thread(target=self.stay, args=(made,), daemon=True).start()
        made.wait()

    def stay(self, made: threading.Event) -> None:
        """Be in the namespace, for ever."""
        unshare(CLONE_NEWNET)
        made.set()
        threading.Event().wait()


class TestLeaksANamespace(Subject):
    meant, because = "test_a_detached_endpoint_has_gone", r"namespace: net:\["

    class driver(WithOneMoreNamespace):
        pass


class TestLeaksANamespaceWithAName(Subject):
    meant, because = "test_a_detached_endpoint_has_gone", r"mount: .*/state/one-more .* nsfs"

    class driver(WithOneMoreNamespace):
        def __init__(self, context: DriverContext, config: BridgeConfig) -> None:
            super().__init__(context, config)
            self.name = context.state / "one-more"

        def stay(self, made: threading.Event) -> None:
            """Name it, as ip-netns(8) does, and be off."""
            unshare(CLONE_NEWNET)
            self.name.touch()
            mount("/proc/thread-self/ns/net", self.name, flags=MS_BIND)
            made.set()


class TestLeavesTheBridge(Subject):
    meant, because = "test_a_network_is_created_once", "link: bridge"

    class driver(BridgeDriver):
        def remove_network(self, network: NetworkSpec) -> None:
            """Do nothing."""


class TestReservesNoPort(Subject):
    meant, because = "test_a_published_port_is_reserved", "can_bind"

    class driver(BridgeDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            plan = super().plan_attach(request, netns)

            def result(inner: Callable[[], Attachment] = plan.result) -> Attachment:
                attachment = inner()
                for descriptor in attachment.descriptors:
                    os.close(descriptor)
                return replace(attachment, descriptors=())

            plan.result = result
            return plan


class TestReservesNothingAgain(Subject):
    meant, because = "test_ports_are_reserved_again", "not enough values to unpack"

    class driver(BridgeDriver):
        def reserve(self, ports: Iterable[PortBinding]) -> tuple[int, ...]:
            del ports
            return ()


class TestListensOnWhatIsWithdrawn(Subject):
    meant, because = "test_ports_move_to_another_network", "DID NOT RAISE"

    class driver(BridgeDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            plan = super().plan_attach(request, netns)

            def result(inner: Callable[[], Attachment] = plan.result) -> Attachment:
                attachment = inner()
                for descriptor in attachment.descriptors:
                    with socket.socket(fileno=os.dup(descriptor)) as reserving:
                        reserving.listen()
                return attachment

            plan.result = result
            return plan


class TestPublishesNothing(Subject):
    meant, because = "test_a_published_port_answers", "Connection refused|timed out"

    class driver(BridgeDriver):
        def _publish(self, network: Any, lease: Any) -> None:
            """Do nothing."""


class TestNeedsTheNamespaceToDetach(Subject):
    meant, because = "test_detach_after_the_namespace_has_gone", "where is the namespace"

    class driver(BridgeDriver):
        def detach(self, request: EndpointRequest, netns: int | None) -> None:
            if netns is None:
                raise DriverError("where is the namespace?")
            super().detach(request, netns)


class TestNeedsTheBridgeToDetach(Subject):
    meant, because = "test_detach_after_the_links_have_gone", "No such device|no such bridge"

    class driver(BridgeDriver):
        def detach(self, request: EndpointRequest, netns: int | None) -> None:
            if not Path("/proc/thread-self/net/dev").read_text().count("pannier"):
                raise DriverError("no such bridge")
            super().detach(request, netns)


class TestSecondDetachRaises(Subject):
    meant, because = "test_a_detached_endpoint_has_gone", "NotFound"

    class driver(BridgeDriver):
        def detach(self, request: EndpointRequest, netns: int | None) -> None:
            if self._leases.get(request.network.id, request.container) is None:
                raise NotFound("no such endpoint")
            super().detach(request, netns)


class TestSecondRemovalRaises(Subject):
    meant, because = "test_a_removed_network_can_be_created_again", "NotFound"

    class driver(BridgeDriver):
        def remove_network(self, network: NetworkSpec) -> None:
            if network.id not in self._networks:
                raise NotFound("no such network")
            super().remove_network(network)


class TestForgetsItsLeases(Subject):
    meant, because = "test_addresses_are_held_over_a_restart", "set()"

    class driver(BridgeDriver):
        def __init__(self, context: DriverContext, config: BridgeConfig) -> None:
            (context.root / "endpoints.journal").unlink(missing_ok=True)
            super().__init__(context, config)

        def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
            """Do nothing."""


class TestReleasesNothingAtAStart(Subject):
    meant, because = "test_a_restart_releases_what_is_not_listed", "element ip pannier ports_any"

    class driver(BridgeDriver):
        def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
            """Do nothing."""


class TestUndoesNothing(Subject):
    meant, because = "test_a_failure_in_any_step_leaves_nothing", "before operation 3"

    class driver(BridgeDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            plan = super().plan_attach(request, netns)
            plan.operations[:] = [
                Action(operation.describe()[0], operation.execute) for operation in plan.operations
            ]
            return plan


class TestActsWhilePlanning(Subject):
    meant, because = "test_describing_reserves_nothing", "descriptor: .*kept"

    class driver(BridgeDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            plan = super().plan_attach(request, netns)
            plan.operations[0].execute()
            self._reaper._kept = os.memfd_create("kept")  # type: ignore[attr-defined]
            return plan


class TestGivesNoWayOut(Subject):
    meant, because = "test_the_default_route_leads_out", "not enough values to unpack"

    class driver(BridgeDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            return super().plan_attach(replace(request, default_route=False), netns)


class TestStaysARouter(Subject):
    meant, because = "test_a_network_is_created_once", "kernel parameters stay changed"

    class driver(BridgeDriver):
        def __init__(self, context: DriverContext, config: BridgeConfig) -> None:
            super().__init__(context, config)
            self._forwarding.restore = lambda: None  # type: ignore[method-assign]


class TestStaysAnIPv6Router(Subject):
    meant, because = "test_ipv6_beside_ipv4", "kernel parameters stay changed"

    class driver(BridgeDriver):
        def __init__(self, context: DriverContext, config: BridgeConfig) -> None:
            super().__init__(context, config)
            self._forwarding6.restore = lambda: None  # type: ignore[method-assign]


class TestIgnoresAWish(Subject):
    meant, because = "test_a_chosen_address", "10.201.0.77"

    class driver(BridgeDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            return super().plan_attach(replace(request, address=None), netns)


class TestTellsAnAddressThatIsNotThere(Subject):
    meant, because = "test_an_endpoint_is_what_the_namespace_has", "10.0.0.9"

    class driver(NoneDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            plan = super().plan_attach(request, netns)
            endpoint = Endpoint(request.network.id, "lo", "10.0.0.9", 24, mac="00:00:00:00:00:00")
            plan.result = lambda: Attachment(endpoint)
            return plan


class TestClaimsWhatItHasNot(Subject):
    meant, because = "test_an_address_is_of_the_networks_subnet", "has no subnet"

    class driver(NoneDriver):
        capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset(
            {NetworkCapability.ADDRESSES}
        )


class TestPassesPortsOver(Subject):
    meant, because = "test_published_ports_are_refused", "DID NOT RAISE"

    class driver(NoneDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            return super().plan_attach(replace(request, ports=()), netns)


class TestLeavesLoopbackDown(Subject):
    meant, because = "test_loopback_works_in_a_new_namespace", "unreachable"

    class driver(NoneDriver):
        def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
            plan = super().plan_attach(request, netns)
            plan.operations[:] = [Action(Step("do", "nothing"), lambda: None)]
            return plan


class TestGivesAnAddressTwiceAcrossNetworks(Subject):
    meant, because = "test_networks_have_subnets_of_their_own", "overlaps"

    class driver(BridgeDriver):
        def create_network(self, network: NetworkSpec) -> NetworkSpec:
            made = super().create_network(network)
            return replace(made, subnets=next(iter(self._networks.values())).spec.subnets)
