"""A host whose resolv.conf names a stub on its own loopback, as systemd-resolved sets it up."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

import pytest

from pannier.dns.message import Record, answer, parse_query
from support.daemon import Daemon, leftovers
from support.dns import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUB = "127.0.0.53"
REAL = "192.0.2.53"
"""The server that the stub would ask: an address of the host, in the place of one far away."""


class StubbedHost(Daemon):
    """A daemon on such a host: with a /etc/resolv.conf and a /run of its own."""

    namespaces: ClassVar[tuple[str, ...]] = ("--net", "--mount")
    script: ClassVar[str] = f"""
        ip link set lo up
        ip address add {REAL}/32 dev lo
        mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd/resolve
        printf 'nameserver {STUB}\\noptions edns0 trust-ad\\nsearch corp.example\\n' > /run/stub
        printf 'nameserver {REAL}\\nsearch corp.example\\n' > /run/systemd/resolve/resolv.conf
        file=$(readlink -m /etc/resolv.conf)
        [ -e "$file" ] || {{ mkdir -p "${{file%/*}}" && : > "$file"; }}
        mount --bind /run/stub "$file"
        exec "$@"
    """


def _serving(address: str, found: str) -> FakeUpstream:
    return FakeUpstream(
        address, lambda data, _: answer(parse_query(data), [Record.address(found, 9)])
    )


@pytest.fixture(scope="module")
def stubbed(busybox: Path) -> Iterator[tuple[Daemon, FakeUpstream, FakeUpstream]]:
    """Give a daemon, the stub, which finds 203.0.113.1 for every name, and the server behind."""
    daemon = StubbedHost()
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        with contextlib.ExitStack() as stack:
            with daemon.inside():
                servers = [_serving(STUB, "203.0.113.1"), _serving(REAL, "203.0.113.2")]
            for server in servers:
                stack.callback(_close, daemon, server)
            yield daemon, servers[0], servers[1]
    finally:
        daemon.close()
    assert leftovers(daemon) == []


def _close(daemon: Daemon, server: FakeUpstream) -> None:
    with daemon.inside():
        server.close()


def _looked_up(daemon: Daemon, network: str) -> tuple[str, list[str]]:
    """Return a container's resolv.conf, and the addresses that it finds for a name outside."""
    script = "cat /etc/resolv.conf; timeout 10 nslookup -type=a example.org"
    done = daemon.cli("run", "--rm", "--network", network, "busybox", "sh", "-c", script)
    lines, _, answers = done.stdout.partition("Name:")
    found = [line.split()[1] for line in answers.splitlines() if line.startswith("Address")]
    return lines.partition("Server:")[0].strip(), found


def test_containers_of_a_host_with_a_stub(
    stubbed: tuple[Daemon, FakeUpstream, FakeUpstream],
) -> None:
    """On a network of a user's the stub is asked from the host; else the server behind it.

    On the host's own network the stub is asked as the host asks it.
    """
    daemon, stub, real = stubbed
    daemon.cli("network", "create", "lan")
    text, found = _looked_up(daemon, "lan")
    assert text.splitlines()[:2] == ["nameserver 127.0.0.11", "search corp.example"]
    assert found == ["203.0.113.1"]
    assert (len(stub.asked), len(real.asked)) == (1, 0)

    text, found = _looked_up(daemon, "bridge")
    assert text.splitlines() == [f"nameserver {REAL}", "search corp.example"]
    assert found == ["203.0.113.2"]
    assert (len(stub.asked), len(real.asked)) == (1, 1)

    text, found = _looked_up(daemon, "host")
    assert text.splitlines()[0] == f"nameserver {STUB}"
    assert found == ["203.0.113.1"]
    assert (len(stub.asked), len(real.asked)) == (2, 1)


def test_an_internal_network_of_such_a_host(
    stubbed: tuple[Daemon, FakeUpstream, FakeUpstream],
) -> None:
    """Its containers ask nobody outside, the stub neither."""
    daemon, stub, real = stubbed
    stub.asked.clear()
    real.asked.clear()
    daemon.cli("network", "create", "--internal", "closed")
    script = "timeout 3 nslookup -type=a example.org || echo nothing"
    done = daemon.cli("run", "--rm", "--network", "closed", "busybox", "sh", "-c", script)
    assert "203.0.113" not in done.stdout
    assert "nothing" in done.stdout
    assert stub.asked == real.asked == []
