"""No network: loopback, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.network import Endpoint, EndpointRequest, Namespace, NetworkSpec, PortRequest
from pannier.drivers.operations import Transaction
from pannier.errors import DriverError, InvalidRequest, UnsupportedOperation
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, unshare
from pannier_net_bridge.driver import BridgeDriver
from pannier_net_container.driver import ContainerDriver
from pannier_net_host.driver import HostDriver
from pannier_net_none import pannier_network_drivers
from pannier_net_none.driver import NoneDriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pannier.drivers.network import NetworkDriver

NETWORK = NetworkSpec("none", "none")


@pytest.fixture
def driver(tmp_path: Path) -> NetworkDriver:
    """Return the driver that the plugin supplies, probed and opened."""
    context = DriverContext(tmp_path, tmp_path)
    (found,) = pannier_network_drivers()
    found.probe(context, NoConfig())
    opened: NetworkDriver = found(context, NoConfig())
    return opened


@pytest.fixture
def netns() -> Iterator[int]:
    """Return a descriptor of a new network namespace."""
    made = []

    def make() -> None:
        unshare(CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    yield made[0]
    os.close(made[0])


def test_containers_get_a_new_namespace(driver: NetworkDriver) -> None:
    """The namespace is new; an argument is refused."""
    assert driver.namespace("") == Namespace("new")
    with pytest.raises(InvalidRequest, match="no argument"):
        driver.namespace("x")


@pytest.mark.root
def test_loopback_works_and_nothing_else(driver: NetworkDriver, netns: int) -> None:
    """127.0.0.1 answers, twice attached or once; every other address is unreachable."""
    request = EndpointRequest("c", driver.create_network(NETWORK))
    for _ in range(2):
        attachment = Transaction().run(driver.plan_attach(request, netns))
    assert (attachment.endpoint, attachment.descriptors) == (Endpoint("none"), ())

    with in_network_namespace(netns):
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=2),
        ):
            server.settimeout(2)
            server.accept()[0].close()
        with pytest.raises(OSError, match="unreachable"):
            socket.create_connection(("192.0.2.1", 80), timeout=2)
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    driver.detach(request, netns)
    driver.detach(request, None)
    driver.reconcile([])
    driver.remove_network(NETWORK)


def test_the_plan_says_what_it_would_do(driver: NetworkDriver) -> None:
    """One step, without a namespace."""
    (step,) = driver.plan_attach(EndpointRequest("c", NETWORK), None).describe()
    assert str(step).startswith("set link up lo")


@pytest.mark.root
def test_a_descriptor_that_is_no_namespace(driver: NetworkDriver, tmp_path: Path) -> None:
    """The kernel's refusal is a named error."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(DriverError, match="loopback"):
            Transaction().run(driver.plan_attach(EndpointRequest("c", NETWORK), descriptor))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "request_",
    [
        EndpointRequest("c", NETWORK, ports=(PortRequest(80),)),
        EndpointRequest("c", NETWORK, address="10.0.0.2"),
        EndpointRequest("c", NETWORK, link_local=("169.254.0.2",)),
    ],
)
def test_ports_and_addresses_are_refused(driver: NetworkDriver, request_: EndpointRequest) -> None:
    """There is nothing that they could belong to."""
    with pytest.raises(UnsupportedOperation, match="without a network"):
        driver.plan_attach(request_, None)


def test_there_is_one_such_network(driver: NetworkDriver) -> None:
    """Users cannot create another."""
    with pytest.raises(UnsupportedOperation, match="only one instance"):
        driver.create_network(NetworkSpec("f" * 64, "mine"))


def test_the_built_in_networks_are_chosen_in_an_order_that_opens_nothing() -> None:
    """Without a bridge containers are alone, rather than on the host's network.

    Those of third parties have the priority 0.
    """
    ranked = (BridgeDriver, NoneDriver, HostDriver, ContainerDriver)
    bridge, none, host, container = (driver.priority for driver in ranked)
    assert bridge > none > 0 > host > container
