"""After a restart of the daemon: what is found again, and what is released."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import EndpointRequest, NetworkSpec, PortRequest
from pannier.drivers.operations import Transaction
from pannier.errors import Conflict
from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkSocket
from pannier_net_bridge import reaper
from pannier_net_bridge.reaper import LINK_GROUP

if TYPE_CHECKING:
    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

PREDEFINED = NetworkSpec("bridge", "bridge")
WEB = (PortRequest(80, host_ports=(8080, 8080)),)


def running(*containers: Any) -> list[Any]:
    """Return what the engine knows of running containers."""
    return [(one.request, one.attachment.endpoint) for one in containers]


def test_a_new_instance_finds_the_leases(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Addresses in use are not given out again, and the next one follows the last."""
    addresses = [host.attach(driver, network).address for _ in range(3)]
    # Not closed: the daemon was killed.
    again = host.open()
    again.create_network(network)

    assert addresses == ["172.17.0.2", "172.17.0.3", "172.17.0.4"]
    assert host.attach(again, network).address == "172.17.0.5"
    with pytest.raises(Conflict, match="already in use"):
        host.attach(again, network, address="172.17.0.3")


def test_addresses_are_not_used_again_at_once(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A freed address rests until the others have had their turn."""
    first = host.attach(driver, network)
    driver.detach(first.request, first.netns)

    assert host.attach(driver, network).address == "172.17.0.3"


def test_traffic_goes_on_while_the_daemon_restarts(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A connection through a published port survives, and new ones are answered all along."""
    container = host.attach(driver, network, ports=WEB)
    server = host.listen(container.netns, 80)
    client = host.connect(host.outside, "198.51.100.1", 8080)
    connection, _ = server.accept()

    driver.close()
    assert host.talk(server, host.outside, "198.51.100.1", 8080)
    again = host.open()
    again.create_network(network)
    again.reconcile(running(container))

    with connection:
        connection.sendall(b"still here")
        assert client.recv(100) == b"still here"
    assert host.talk(server, host.outside, "198.51.100.1", 8080)


def test_what_runs_is_held_and_what_died_is_released(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Leases, elements and links of containers that ended meanwhile go; the others' stay."""
    lives = host.attach(driver, network, ports=WEB)
    died = host.attach(driver, network, ports=(PortRequest(80, host_ports=(8081, 8081)),))
    again = host.open()
    again.create_network(network)

    again.reconcile(running(lives))

    assert len(host.elements("ports_any")) == 1
    assert len(host.leases()) == 1
    host.wait_until(lambda: len(host.links()) == 4)
    assert host.talk(host.listen(lives.netns, 80), host.outside, "198.51.100.1", 8080)
    died.close()
    ports = (PortRequest(80, host_ports=(8081, 8081)),)
    assert host.attach(again, network, ports=ports).attachment.endpoint.ports
    with pytest.raises(Conflict, match="already allocated"):
        host.attach(again, network, ports=WEB)


def test_a_link_whose_deletion_was_cut_off_is_deleted(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A daemon that is killed once it has marked links for their deletion leaves them marked."""
    host.attach(driver, network)
    with NetlinkSocket(ROUTE) as netlink:
        (link,) = [one.name for one in rtnl.links(netlink) if one.group == LINK_GROUP]
        netlink.request([rtnl.set_group(link, reaper._DOOMED_GROUP)])
    again = host.open()
    again.create_network(network)
    again.reconcile([])
    again.close()
    with NetlinkSocket(ROUTE) as netlink:
        assert link not in {one.name for one in rtnl.links(netlink)}


def test_leases_that_were_lost_are_held_again(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The engine's word is enough to keep a running container's address, ports and link."""
    container = host.attach(driver, network, ports=WEB)
    (host.folder / "root" / "endpoints.journal").unlink()
    host.run("nft", "flush", "ruleset")
    again = host.open()
    again.create_network(network)

    again.reconcile(running(container))

    assert host.talk(host.listen(container.netns, 80), host.outside, "198.51.100.1", 8080)
    with pytest.raises(Conflict, match="already in use"):
        host.attach(again, network, address=container.address)
    again.detach(container.request, None)
    assert host.elements("ports_any") == []


def test_the_link_of_a_lost_lease_is_found_from_within(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A daemon that is killed in a detach may forget the link, and is asked to detach again."""
    container = host.attach(driver, network)
    (host.folder / "root" / "endpoints.journal").unlink()
    again = host.open()
    again.create_network(network)
    again.reconcile(running(container))
    again.detach(container.request, container.netns)
    host.wait_until(lambda: host.links() == {"lo", "wan0", "pannier0"})


def test_a_change_cut_off_by_a_crash_is_dropped(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """What was written before it is found; the file is whole again and takes new changes."""
    first = host.attach(driver, network)
    with (host.folder / "root" / "endpoints.journal").open("ab") as journal:
        journal.write(b'["half')

    again = host.open()
    second = host.attach(again, again.create_network(PREDEFINED))

    assert {lease["address"] for lease in host.leases().values()} == {
        first.address,
        second.address,
    }


def test_networks_that_the_engine_does_not_know_are_removed(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A daemon that died while it created or removed a network leaves it to the next."""
    driver.create_network(NetworkSpec("f" * 64, "lost"))
    again = host.open()
    again.create_network(network)

    again.reconcile([])

    assert host.links() == {"lo", "wan0", "pannier0"}
    assert "ffff" not in host.ruleset()


def test_after_a_reboot_everything_is_made_anew(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Links and rules are gone, the records are not: containers can be started."""
    host.attach(driver, network, "c" * 64, ports=WEB).close()
    driver.close()
    host.run("ip", "link", "delete", "pannier0")
    host.run("nft", "flush", "ruleset")
    again = host.open()
    spec = again.create_network(network)
    again.reconcile([])

    container = host.attach(again, spec, "c" * 64, ports=WEB)

    assert spec == network
    assert host.talk(host.listen(container.netns, 80), host.outside, "198.51.100.1", 8080)


def test_thirty_containers_from_eight_threads(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Every one gets an address and a port of its own, and all of them can leave at once."""
    requests = [
        EndpointRequest(f"{number:064x}", network, ports=(PortRequest(80),)) for number in range(30)
    ]
    work = [(request, host.new_namespace()) for request in requests]
    host.namespaces += [netns for _, netns in work]
    attachments: list[Any] = []
    failures: list[BaseException] = []

    def each(items: list[Any], do: Any) -> None:
        def worker(share: list[Any]) -> None:
            try:
                for item in share:
                    do(*item)
            except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=worker, args=(items[n::8],)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def attach(request: EndpointRequest, netns: int) -> None:
        attachments.append(Transaction().run(driver.plan_attach(request, netns)))

    each(work, attach)
    try:
        assert failures == []
        assert len({one.endpoint.address for one in attachments}) == 30
        assert len({one.endpoint.ports[0].host_port for one in attachments}) == 30
        assert len(host.elements("ports_any")) == 30
        each(work, driver.detach)
        assert failures == []
        assert host.elements("ports_any") == []
        assert host.leases() == {}
        host.wait_until(lambda: host.links() == {"lo", "wan0", "pannier0"})
    finally:
        for attachment in attachments:
            for descriptor in attachment.descriptors:
                os.close(descriptor)


def test_a_daemon_killed_in_the_middle_of_an_attach_leaves_nothing(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Wherever it died, the next one finds link, lease and element, and removes them."""
    request = EndpointRequest("c" * 64, network, ports=WEB)
    count = len(driver.plan_attach(request, None).operations)
    for done in range(1, count + 1):
        netns = host.new_namespace()
        host.namespaces.append(netns)
        dying = host.open()
        dying.create_network(network)
        plan = dying.plan_attach(request, netns)
        for operation in plan.operations[:done]:
            operation.execute()
        # What the kernel does for a process that dies: its sockets are closed.
        attach = plan.operations[0].do.__self__
        attach.ports.release()
        attach.leave()

        again = host.open()
        again.create_network(network)
        again.reconcile([])

        host.wait_until(lambda: host.links() == {"lo", "wan0", "pannier0"})
        assert host.leases() == {}
        assert host.elements("ports_any") == []
        host.listen(None, 8080).close()
