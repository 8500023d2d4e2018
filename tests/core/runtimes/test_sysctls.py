"""Which kernel parameters a container has of its own."""

from __future__ import annotations

import pytest

from pannier.errors import InvalidRequest
from pannier.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS
from pannier.runtimes.sysctls import sysctl_path


@pytest.mark.parametrize(
    ("key", "own", "path"),
    [
        ("net.ipv4.ip_forward", CLONE_NEWNET, "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", CLONE_NEWNET, "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", CLONE_NEWNET, "net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.msgmax", CLONE_NEWIPC, "kernel/msgmax"),
        ("kernel.domainname", CLONE_NEWUTS, "kernel/domainname"),
    ],
)
def test_a_parameter_of_an_own_namespace(key: str, own: int, path: str) -> None:
    """Its path is that below /proc/sys, however its words are parted."""
    assert sysctl_path(key, own) == path


@pytest.mark.parametrize(
    ("key", "own"),
    [
        ("net.ipv4.ip_forward", CLONE_NEWIPC),
        ("kernel.msgmax", 0),
        ("vm.swappiness", CLONE_NEWIPC | CLONE_NEWNET),
        ("net/../vm/swappiness", CLONE_NEWNET),
    ],
)
def test_a_parameter_of_the_hosts(key: str, own: int) -> None:
    """It is refused, by its name."""
    with pytest.raises(InvalidRequest, match=key):
        sysctl_path(key, own)
