"""Another container's network: joined, and nothing given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.network import Endpoint, EndpointRequest, Namespace, NetworkSpec, PortRequest
from pannier.drivers.operations import Transaction
from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier_net_container import pannier_network_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.drivers.network import NetworkDriver

NETWORK = NetworkSpec("container", "container")


@pytest.fixture
def driver(tmp_path: Path) -> NetworkDriver:
    """Return the driver that the plugin supplies, probed and opened."""
    context = DriverContext(tmp_path, tmp_path)
    (found,) = pannier_network_drivers()
    found.probe(context, NoConfig())
    opened: NetworkDriver = found(context, NoConfig())
    return opened


def test_the_argument_names_the_container(driver: NetworkDriver) -> None:
    """``container:NAME`` joins NAME's namespace; without a name it is refused."""
    assert driver.namespace("web") == Namespace("container", "web")
    with pytest.raises(InvalidRequest, match="missing"):
        driver.namespace("")


def test_there_is_nothing_to_do(driver: NetworkDriver) -> None:
    """Attaching is an empty plan with an empty endpoint; detaching is allowed at any time."""
    request = EndpointRequest("c", driver.create_network(NETWORK))
    plan = driver.plan_attach(request, None)

    assert plan.describe() == []
    assert Transaction().run(plan).endpoint == Endpoint("container")
    driver.detach(request, None)
    driver.reconcile([(request, Endpoint("container"))])
    driver.remove_network(NETWORK)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (EndpointRequest("c", NETWORK, ports=(PortRequest(80),)), "port publishing"),
        (EndpointRequest("c", NETWORK, address="10.0.0.2"), "ip address"),
        (EndpointRequest("c", NETWORK, link_local=("169.254.0.2",)), "ip address"),
        (EndpointRequest("c", NETWORK, mac="02:42:00:00:00:01"), "mac-address"),
    ],
)
def test_conflicting_options(driver: NetworkDriver, request_: EndpointRequest, words: str) -> None:
    """What belongs to the other container is refused as Docker words it."""
    with pytest.raises(UnsupportedOperation, match=f"conflicting options: {words}"):
        driver.plan_attach(request_, None)


def test_networks_cannot_be_created(driver: NetworkDriver) -> None:
    """There is no such thing as a network of this driver."""
    with pytest.raises(UnsupportedOperation, match="cannot be created"):
        driver.create_network(NetworkSpec("f" * 64, "mine"))
