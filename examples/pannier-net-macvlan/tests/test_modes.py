"""What the modes of macvlan do to containers, as they and the outside see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pannier.errors import Conflict, InvalidRequest

from lab import GATEWAY, PARENT, SUBNET

if TYPE_CHECKING:
    from conftest import Rig


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", ""])
def test_who_reaches_whom(rig: Rig, mode: str) -> None:
    """Containers of one parent reach each other in the mode bridge only, and all the outside."""
    network = rig.network(SUBNET, options={"parent": PARENT, "macvlan_mode": mode})
    one, other = rig.attach(network), rig.attach(network)
    rig.lab.listen(other.netns, 7)
    rig.lab.listen(rig.lab.outside, 7)
    assert rig.lab.reaches(one.netns, GATEWAY, 7)
    assert rig.lab.reaches(rig.lab.outside, other.address, 7)
    if mode in ("bridge", ""):
        assert rig.lab.reaches(one.netns, other.address, 7)
    else:  # the outside is no switch that would send frames back
        assert rig.lab.misses(one.netns, other.address, 7)


def test_passthru_gives_the_parent_to_one_container(rig: Rig) -> None:
    """With its MAC address; a second has to wait for the first to leave."""
    network = rig.network(SUBNET, options={"parent": PARENT, "macvlan_mode": "passthru"})
    own = rig.lab.links()[PARENT].mac
    first = rig.attach(network)
    assert rig.lab.links(first.netns)["eth0"].mac == first.endpoint.mac == own
    rig.lab.listen(first.netns, 7)
    assert rig.lab.reaches(rig.lab.outside, first.address, 7)
    with pytest.raises(Conflict, match="passthru shares it with nobody"):
        rig.attach(network)
    rig.detach(first)
    second = rig.attach(network)
    rig.lab.listen(second.netns, 7)
    assert rig.lab.reaches(rig.lab.outside, second.address, 7)


def test_passthru_after_a_container_that_ended(rig: Rig) -> None:
    """The kernel deletes its link later than its namespace; the next container waits for that."""
    network = rig.network(SUBNET, options={"parent": PARENT, "macvlan_mode": "passthru"})
    for _ in range(5):
        rig.kill(rig.attach(network))


def test_passthru_with_a_mac_address(rig: Rig) -> None:
    """The parent has the address that is asked for, for as long as the container is there."""
    network = rig.network(SUBNET, options={"parent": PARENT, "macvlan_mode": "passthru"})
    own = rig.lab.links()[PARENT].mac
    guest = rig.attach(network, mac="02:42:00:00:00:07")
    assert rig.lab.links(guest.netns)["eth0"].mac == guest.endpoint.mac == "02:42:00:00:00:07"
    rig.lab.listen(guest.netns, 7)
    assert rig.lab.reaches(rig.lab.outside, guest.address, 7)
    rig.detach(guest)
    assert rig.lab.links()[PARENT].mac == own


def test_passthru_shares_a_parent_with_no_other_network(rig: Rig) -> None:
    """Whichever of the two comes second is refused."""
    passthru = {"parent": PARENT, "macvlan_mode": "passthru"}
    first = rig.network(SUBNET)
    with pytest.raises(Conflict, match=f"{first.name} is already using parent interface {PARENT}"):
        rig.network("10.9.0.0/24", options=passthru)
    rig.driver.remove_network(first)
    rig.network(SUBNET, options=passthru)
    with pytest.raises(Conflict, match="is already using parent interface"):
        rig.network("10.9.0.0/24")


def test_a_mode_that_does_not_exist(rig: Rig) -> None:
    """It is refused in Docker's words, with the modes that there are."""
    with pytest.raises(InvalidRequest, match="requested macvlan mode 'tunnel' is not valid") as no:
        rig.network(options={"parent": PARENT, "macvlan_mode": "tunnel"})
    assert no.value.hint == "the modes are private, vepa, bridge, passthru"


def test_an_option_that_does_not_exist(rig: Rig) -> None:
    """A misspelt option is not passed over."""
    with pytest.raises(InvalidRequest, match="no option mode") as no:
        rig.network(options={"parent": PARENT, "mode": "private"})
    assert "macvlan_mode" in str(no.value.hint)


def test_an_mtu(rig: Rig) -> None:
    """Links have that of the network; one that the parent has not is refused, as is nonsense."""
    option = "com.docker.network.driver.mtu"
    network = rig.network(options={"parent": PARENT, option: "1400"})
    assert rig.lab.links(rig.attach(network).netns)["eth0"].mtu == 1400
    assert rig.lab.links(rig.attach(rig.network()).netns)["eth0"].mtu == 1500
    with pytest.raises(InvalidRequest, match="more than the 1500 of its parent"):
        rig.network(options={"parent": PARENT, option: "9000"})
    for text in ("-1", "60", "many"):
        with pytest.raises(InvalidRequest, match="no number of bytes"):
            rig.network(options={"parent": PARENT, option: text})
