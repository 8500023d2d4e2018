"""Networks that are only configurations, and subnets that a network has no use for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from pannier.drivers.network import Subnet
from pannier.engine.model import EndpointOptions, HostOptions
from pannier.errors import Forbidden, InvalidRequest, NotFound
from support.engine_rig import engine_test

if TYPE_CHECKING:
    from support.engine_rig import Rig

_USER = "user specified configurations are not supported"


@engine_test
async def test_configurations_of_networks(rig: Rig) -> None:
    """One is no network itself: others are made from it, and it stays as long as they do."""
    networks = rig.engine.networks
    subnets = (Subnet("10.9.0.0/24", reserved=("10.9.0.9",)),)
    given: dict[str, Any] = {
        "options": {"a": "b"},
        "labels": {"c": "d"},
        "auxiliary": {"router": "10.9.0.9"},
    }
    plan = await networks.create("plan", config_only=True, subnets=subnets, **given)
    assert (plan.driver, plan.subnets) == ("null", subnets)
    assert plan.id not in rig.bridge.created
    made = await networks.create("lan", config_from="plan")
    assert (made.subnets, made.options, made.labels) == (subnets, {"a": "b"}, {"c": "d"})
    assert (made.auxiliary, made.config_from) == ({"router": "10.9.0.9"}, "plan")
    assert rig.bridge.created[made.id].subnets == subnets
    with pytest.raises(Forbidden, match='configuration network "plan" is in use'):
        await networks.remove("plan")
    with pytest.raises(Forbidden, match="cannot create endpoint on configuration-only network"):
        await rig.create("web", host=HostOptions(network_mode="plan"))
    await rig.create("web")
    with pytest.raises(Forbidden, match="cannot create endpoint on configuration-only network"):
        await networks.connect("plan", "web", EndpointOptions())
    assert (await networks.prune({})).deleted == ("lan",)
    await networks.remove("plan")
    assert networks.list({"type": ("custom",)}) == []


REFUSED: Final[tuple[tuple[dict[str, Any], type[Exception], str], ...]] = (
    ({"config_only": True, "internal": True}, Forbidden, "network specific fields"),
    ({"config_only": True, "attachable": True}, Forbidden, "network specific fields"),
    ({"config_only": True, "config_from": "plan"}, Forbidden, "cannot depend on another"),
    ({"config_from": "plan", "ipv6": True}, Forbidden, _USER),
    ({"config_from": "plan", "labels": {"a": ""}}, Forbidden, _USER),
    ({"config_from": "plan", "subnets": (Subnet("10.1.0.0/24"),)}, Forbidden, _USER),
    ({"config_from": "plan", "options": {"a": ""}}, Forbidden, "network driver options"),
    ({"config_from": "none-such"}, NotFound, '"none-such" does not exist'),
    ({"config_from": "bridge"}, NotFound, 'configuration network "bridge" does not exist'),
)


@engine_test
async def test_configurations_that_cannot_be(rig: Rig) -> None:
    """They are refused in Docker's words, and nothing is kept."""
    await rig.engine.networks.create("plan", config_only=True)
    for asked, error, words in REFUSED:
        with pytest.raises(error, match=words):
            await rig.engine.networks.create("lan", **asked)
    found = rig.engine.networks.list({"type": ("custom",)})
    assert [network.name for network in found] == ["plan"]


@engine_test
async def test_a_subnet_of_ipv6_without_it(rig: Rig) -> None:
    """It is kept and shown, and the driver hears nothing of it; not of one in a configuration."""
    networks = rig.engine.networks
    both = (Subnet("fd00:9::/64"), Subnet("10.9.0.0/24"))
    made = await networks.create("lan", subnets=both)
    assert {one.subnet for one in made.subnets} == {"fd00:9::/64", "10.9.0.0/24"}
    assert [one.subnet for one in rig.bridge.created[made.id].subnets] == ["10.9.0.0/24"]
    with pytest.raises(InvalidRequest, match="no configured subnet contains"):
        await rig.create("web", networks={"lan": EndpointOptions(address6="fd00:9::5")})
