"""What the next instance finds after a kill, and what it does about it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from pannier.drivers.base import DriverContext
from pannier.drivers.network import NetworkSpec
from pannier.errors import Conflict, DriverError

from lab import PARENT, SUBNET
from pannier_net_macvlan.config import MacvlanConfig
from pannier_net_macvlan.driver import MacvlanDriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Rig


@pytest.fixture
def running() -> Iterator[int]:
    """Give a descriptor of the namespace of a container that goes on."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # then it is in there
        netns = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield netns
        finally:
            os.close(netns)
            process.kill()


def test_leases_are_found_again(rig: Rig) -> None:
    """In mid-life, without being told: a new instance knows who has which address."""
    guest = rig.attach(rig.network(SUBNET))
    rig.driver.close()
    rig.driver = MacvlanDriver(rig.context, MacvlanConfig())
    with pytest.raises(Conflict, match="Address already in use"):
        rig.attach(guest.request.network, address=guest.address)
    rig.detach(guest)
    assert rig.attach(guest.request.network, address=guest.address).address == guest.address


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_half_made_link_of_a_container_that_goes_on(rig: Rig, running: int, steps: int) -> None:
    """A kill during a live ``network connect`` leaves nothing in the container."""
    network = rig.network(SUBNET)
    for operation in rig.plan(network, running).operations[:steps]:
        operation.execute()
    assert ("eth0" in rig.lab.links(running)) == (steps > 1)
    rig.restart([])
    assert set(rig.lab.links(running)) == {"lo"}
    guest = rig.attach(network, running)
    assert guest.endpoint.interface == "eth0"
    rig.detach(guest)


@pytest.mark.parametrize("change", ["name", "address"])
def test_a_link_that_the_container_changed(rig: Rig, running: int, change: str) -> None:
    """A live ``network disconnect`` takes it away all the same, and no other."""
    other = rig.attach(rig.network(), running)
    guest = rig.attach(rig.network(SUBNET), running)
    wish = ["name", "lan0"] if change == "name" else ["address", "02:00:00:00:00:55"]
    command = ["nsenter", f"--net=/proc/self/fd/{running}", "ip", "link", "set", "eth1"]
    subprocess.run([*command, "down"], pass_fds=[running], check=True)
    subprocess.run([*command, *wish], pass_fds=[running], check=True)
    rig.detach(guest)
    assert set(rig.lab.links(running)) == {"lo", "eth0"}
    rig.detach(other)


def test_a_network_that_the_engine_does_not_know(rig: Rig) -> None:
    """It was killed while it made one: a private network's link goes, one in use stays."""
    for name in ("lost", "used"):
        rig.driver.create_network(NetworkSpec(name * 16, name))
    used = NetworkSpec("used" * 16, "used")
    guest = rig.attach(used)
    rig.restart()
    assert {name for name in rig.lab.links() if name.startswith("dm-")} == {"dm-usedusedused"}
    assert set(rig.lab.links(guest.netns)) == {"lo", "eth0"}
    rig.networks.append(used)


def test_the_engines_word_is_enough(rig: Rig) -> None:
    """Without its database the driver holds what the engine lists, and can take it away."""
    network = rig.network(SUBNET, options={"parent": PARENT, "macvlan_mode": "private"})
    guest = rig.attach(network, mac="02:42:00:00:00:07")
    for path in rig.context.root.iterdir():
        path.unlink()
    rig.restart()
    with pytest.raises(Conflict, match="Address already in use"):
        rig.attach(network, address=guest.address)
    with pytest.raises(Conflict, match="has the MAC address"):
        rig.attach(network, mac="02:42:00:00:00:07")
    rig.detach(guest)
    assert set(rig.lab.links(guest.netns)) == {"lo"}


def test_a_damaged_database(tmp_path: Path) -> None:
    """The error says which file it is, and that it can be done without."""
    (tmp_path / "macvlan.db").write_bytes(b"no database" * 1000)
    with pytest.raises(DriverError, match=r"macvlan\.db: file is not a database") as no:
        MacvlanDriver(DriverContext(tmp_path, tmp_path), MacvlanConfig())
    assert "move it away" in str(no.value.hint)
