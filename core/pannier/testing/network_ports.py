"""Published ports: reserved on the host, answered in the container, free again afterwards."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pannier.drivers.network import NetworkCapability, PortRequest
from pannier.drivers.operations import Transaction
from pannier.errors import Conflict
from pannier.testing.base import mandatory, requires
from pannier.testing.network_bench import NetworkBench, NetworkTests
from pannier.testing.network_lab import HOST_ADDRESS

__all__ = ["PortTests"]

_PUBLISH = NetworkCapability.PUBLISH
_WEB = PortRequest(80, host_ports=(8080, 8080))
_NAMES = PortRequest(53, "udp", host_ports=(5353, 5353))
_CROWD = 20


class PortTests(NetworkTests):
    """What a driver holds that publishes ports."""

    @mandatory
    @requires(_PUBLISH)
    def test_a_published_port_answers(self, bench: NetworkBench) -> None:
        """A neighbour and the host itself reach the container by the host's address: TCP, UDP."""
        guest = bench.attach(bench.network(), ports=(_WEB, _NAMES))
        bound = {(one.protocol, one.container_port, one.host_port) for one in guest.endpoint.ports}
        assert bound == {("tcp", 80, 8080), ("udp", 53, 5353)}
        web, names = bench.lab.listen(guest.netns, 80), bench.lab.listen_udp(guest.netns, 53)
        for client in (bench.lab.outside, None):
            bench.lab.talk(web, client, HOST_ADDRESS, 8080)
            bench.lab.talk_udp(names, client, HOST_ADDRESS, 5353)

    @mandatory
    @requires(_PUBLISH)
    def test_a_published_port_is_reserved(self, bench: NetworkBench) -> None:
        """No process of the host can take it, until the endpoint and its descriptors have gone."""
        guest = bench.attach(bench.network(), ports=(_WEB, _NAMES))
        assert not bench.lab.can_bind(8080)
        assert not bench.lab.can_bind(5353, socket.SOCK_DGRAM)
        assert bench.lab.can_bind(8080, socket.SOCK_DGRAM)
        bench.detach(guest)
        assert bench.lab.can_bind(8080)
        assert bench.lab.can_bind(5353, socket.SOCK_DGRAM)

    @mandatory
    @requires(_PUBLISH)
    def test_a_withdrawn_port_answers_no_more(self, bench: NetworkBench) -> None:
        """After a detach a client is refused, and the other containers' ports go on."""
        network = bench.network()
        gone = bench.attach(network, ports=(_WEB,))
        stays = bench.attach(network, ports=(PortRequest(80, host_ports=(8081, 8081)),))
        bench.lab.listen(gone.netns, 80)
        server = bench.lab.listen(stays.netns, 80)
        bench.lab.connect(bench.lab.outside, HOST_ADDRESS, 8080).close()
        bench.detach(gone)
        assert not bench.lab.reaches(bench.lab.outside, HOST_ADDRESS, 8080)
        bench.lab.talk(server, bench.lab.outside, HOST_ADDRESS, 8081)

    @mandatory
    @requires(_PUBLISH)
    def test_a_port_that_is_taken_is_a_conflict(self, bench: NetworkBench) -> None:
        """By a process or by another container: the attach says so, and nothing of it stays."""
        network = bench.network()
        server = bench.lab.listen(None, 8080)
        before = bench.view()
        with pytest.raises(Conflict):
            bench.attach(network, ports=(_NAMES, _WEB))
        assert bench.left(before) == []
        assert bench.lab.can_bind(5353, socket.SOCK_DGRAM), "the other port stays reserved"
        server.close()
        bench.attach(network, ports=(_WEB,))
        with pytest.raises(Conflict):
            bench.attach(network, ports=(_NAMES, _WEB))
        assert bench.lab.can_bind(5353, socket.SOCK_DGRAM), "the other port stays reserved"

    @requires(_PUBLISH)
    def test_a_free_port_is_found(self, bench: NetworkBench) -> None:
        """Without a number, and out of a range, the driver chooses one that nobody has."""
        bench.lab.listen(None, 8081)
        network = bench.network()
        free, ranged = PortRequest(80), PortRequest(81, host_ports=(8081, 8082))
        guest = bench.attach(network, ports=(free, ranged))
        ports = {one.container_port: one.host_port for one in guest.endpoint.ports}
        assert ports[80] >= 1024
        assert ports[81] == 8082
        bench.lab.talk(
            bench.lab.listen(guest.netns, 80), bench.lab.outside, HOST_ADDRESS, ports[80]
        )
        with pytest.raises(Conflict):
            bench.attach(network, ports=(ranged,))

    @requires(_PUBLISH)
    def test_a_port_of_one_address(self, bench: NetworkBench) -> None:
        """Published on the loopback address it answers the host alone."""
        port = PortRequest(80, host_ip="127.0.0.1", host_ports=(8080, 8080))
        guest = bench.attach(bench.network(), ports=(port,))
        (binding,) = guest.endpoint.ports
        assert binding.host_ip == "127.0.0.1"
        server = bench.lab.listen(guest.netns, 80)
        bench.lab.talk(server, None, "127.0.0.1", 8080)
        assert not bench.lab.reaches(bench.lab.outside, HOST_ADDRESS, 8080)

    @requires(_PUBLISH, NetworkCapability.LIVE)
    def test_ports_move_to_another_network(self, bench: NetworkBench) -> None:
        """The first endpoint gives them up, the second has them, of the reservation there is."""
        guest = bench.attach(bench.network(), ports=(_WEB,))
        other = bench.network()
        beside = bench.attach(
            other, guest.request.container, netns=guest.netns, default_route=False
        )
        without = replace(guest.request, ports=())
        withdrawn = bench.opened.run(bench.driver.plan_attach(without, guest.netns))
        assert withdrawn.endpoint == replace(guest.endpoint, ports=())
        assert not bench.lab.can_bind(8080), "it is still the container's"
        with pytest.raises(ConnectionRefusedError):
            bench.lab.connect(None, "127.0.0.1", 8080)
        server = bench.lab.listen(guest.netns, 80)
        wish = replace(beside.request, ports=(_WEB,), held=guest.endpoint.ports)
        moved = bench.opened.run(bench.driver.plan_attach(wish, guest.netns))
        assert moved.endpoint == replace(beside.endpoint, ports=guest.endpoint.ports)
        assert moved.descriptors == ()
        bench.lab.talk(server, None, HOST_ADDRESS, 8080)

    @requires(_PUBLISH, NetworkCapability.LIVE)
    def test_ports_that_did_not_move_after_all(self, bench: NetworkBench) -> None:
        """Taken back, or cut off by a kill before it was on record, they are where they were."""
        guest = bench.attach(bench.network(), ports=(_WEB,))
        server = bench.lab.listen(guest.netns, 80)
        without = replace(guest.request, ports=())
        for end in ("rollback", "restart"):
            transaction = Transaction()
            withdrawn = transaction.run(bench.driver.plan_attach(without, guest.netns))
            assert withdrawn.endpoint.ports == ()
            if end == "rollback":
                transaction.rollback()
            else:
                bench.restart()
            bench.lab.talk(server, bench.lab.outside, HOST_ADDRESS, 8080)

    @requires(_PUBLISH)
    def test_ports_are_reserved_again(self, bench: NetworkBench) -> None:
        """After a restart: those that only the last daemon reserved, and no others."""
        guest = bench.attach(bench.network(), ports=(_WEB,))
        assert bench.driver.reserve(guest.endpoint.ports) == ()
        guest.close_ports()
        assert bench.lab.can_bind(8080)
        (again,) = bench.driver.reserve(guest.endpoint.ports)
        try:
            assert not bench.lab.can_bind(8080)
        finally:
            os.close(again)

    @requires(_PUBLISH)
    def test_one_port_and_twenty_who_want_it(self, bench: NetworkBench) -> None:
        """One container gets it; the others are told of the conflict."""
        network = bench.network()

        def wish(_: int) -> bool:
            try:
                bench.attach(network, ports=(_WEB,))
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(_CROWD) as pool:
            assert sum(pool.map(wish, range(_CROWD))) == 1

    @requires(_PUBLISH)
    def test_ports_live_on_after_a_restart(self, bench: NetworkBench) -> None:
        """A connection survives it, new ones are answered, and the port is still the container's.

        The descriptors that reserve it are held by what outlives the daemon.
        """
        network = bench.network()
        guest = bench.attach(network, ports=(_WEB,))
        server = bench.lab.listen(guest.netns, 80)
        client = bench.lab.connect(bench.lab.outside, HOST_ADDRESS, 8080)
        connection, _ = server.accept()
        bench.restart()
        with connection:
            client.sendall(b"still here")
            assert connection.recv(100) == b"still here"
        bench.lab.talk(server, bench.lab.outside, HOST_ADDRESS, 8080)
        assert not bench.lab.can_bind(8080)
        with pytest.raises(Conflict):
            bench.attach(network, ports=(_WEB,))
