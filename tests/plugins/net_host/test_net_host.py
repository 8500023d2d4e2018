"""The host's network: shared, and nothing given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.network import Endpoint, EndpointRequest, Namespace, NetworkSpec, PortRequest
from pannier.drivers.operations import Transaction
from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier_net_host import pannier_network_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.drivers.network import NetworkDriver

NETWORK = NetworkSpec("host", "host")


@pytest.fixture
def driver(tmp_path: Path) -> NetworkDriver:
    """Return the driver that the plugin supplies, probed and opened."""
    context = DriverContext(tmp_path, tmp_path)
    (found,) = pannier_network_drivers()
    found.probe(context, NoConfig())
    opened: NetworkDriver = found(context, NoConfig())
    return opened


def test_containers_get_the_hosts_namespace(driver: NetworkDriver) -> None:
    """The namespace is the host's; an argument is refused."""
    assert driver.namespace("") == Namespace("host")
    with pytest.raises(InvalidRequest, match="no argument"):
        driver.namespace("x")


def test_there_is_nothing_to_do(driver: NetworkDriver) -> None:
    """Attaching is an empty plan with an empty endpoint; detaching is allowed at any time."""
    request = EndpointRequest("c", driver.create_network(NETWORK))
    plan = driver.plan_attach(request, None)

    assert plan.describe() == []
    attachment = Transaction().run(plan)
    assert (attachment.endpoint, attachment.descriptors) == (Endpoint("host"), ())
    driver.detach(request, None)
    driver.reconcile([(request, attachment.endpoint)])
    driver.remove_network(NETWORK)


@pytest.mark.parametrize(
    "request_",
    [
        EndpointRequest("c", NETWORK, ports=(PortRequest(80),)),
        EndpointRequest("c", NETWORK, address="10.0.0.2"),
        EndpointRequest("c", NETWORK, link_local=("169.254.0.2",)),
        EndpointRequest("c", NETWORK, mac="02:42:00:00:00:01"),
    ],
)
def test_what_the_host_cannot_give(driver: NetworkDriver, request_: EndpointRequest) -> None:
    """Published ports and addresses of one's own are refused by name."""
    with pytest.raises(UnsupportedOperation) as caught:
        driver.plan_attach(request_, None)
    assert caught.value.hint


def test_there_is_one_host_network(driver: NetworkDriver) -> None:
    """Users cannot create another."""
    with pytest.raises(UnsupportedOperation, match="only one instance"):
        driver.create_network(NetworkSpec("f" * 64, "mine"))
