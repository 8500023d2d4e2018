"""A host of its own for each test: a network namespace, with an outside and containers around it.

Everything happens in the namespaces that the test's own thread makes; the machine's own network is
never touched. Threads and programs that a test starts begin in the test's host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import DriverContext
from pannier.drivers.network import Attachment, EndpointRequest, NetworkSpec
from pannier.drivers.operations import Transaction
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, setns, unshare
from pannier_net_bridge.config import BridgeConfig
from pannier_net_bridge.driver import BridgeDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST_ADDRESS = "198.51.100.1"
OUTSIDE_ADDRESS = "198.51.100.2"
PATIENCE = 10.0
"""Seconds in which what is expected to arrive does so, on an emulated machine too."""

IMPATIENCE = 0.4
"""Seconds after which a packet is taken to have been dropped."""


def run(*command: str, check: bool = True) -> str:
    """Run a program in the calling thread's namespace; return what it prints."""
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=30).stdout


@contextlib.contextmanager
def _somewhere(netns: int | None) -> Iterator[None]:
    if netns is None:
        yield
    else:
        with in_network_namespace(netns):
            yield


@dataclass
class Container:
    """A namespace with an endpoint."""

    request: EndpointRequest
    netns: int
    attachment: Attachment | None = None

    @property
    def address(self) -> str:
        assert self.attachment is not None
        return self.attachment.endpoint.address

    def close(self) -> None:
        """End the container: its namespace and the sockets of its ports."""
        if self.netns >= 0:
            os.close(self.netns)
            self.netns = -1
        for descriptor in self.attachment.descriptors if self.attachment else ():
            os.close(descriptor)
        self.attachment = None


@dataclass
class Host:
    """The host, seen from a thread that is in it."""

    folder: Path
    outside: int
    config: BridgeConfig = field(default_factory=BridgeConfig)
    opened: list[BridgeDriver] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    sockets: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    namespaces: list[int] = field(default_factory=list)

    def open(self, *, second: bool = False, **config: Any) -> BridgeDriver:
        """Open the driver, as a daemon that starts does; the one before was killed.

        :param second: another daemon, with folders of its own, beside the first.
        """
        if config:
            self.config = BridgeConfig(**config)
        folder = self.folder / "second" if second else self.folder
        for name in ("root", "state"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for driver in self.opened if not second else ():
            if driver._watch is not None:
                driver._watch.close()
                driver._watch = None
        context = DriverContext(folder / "root", folder / "state")
        driver = BridgeDriver(context, self.config)
        self.opened.append(driver)
        return driver

    def new_namespace(self) -> int:
        """Make a namespace, as a container's first process has one."""
        made: list[int] = []

        def make() -> None:
            unshare(CLONE_NEWNET)
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def attach(
        self, driver: BridgeDriver, network: NetworkSpec, name: str = "", **request: Any
    ) -> Container:
        """Start a container in a network."""
        asked = EndpointRequest(name or f"c{len(self.containers):063d}", network, **request)
        container = Container(asked, self.new_namespace())
        self.containers.append(container)
        container.attachment = Transaction().run(driver.plan_attach(asked, container.netns))
        return container

    # Talking.

    def listen(self, netns: int | None, port: int, address: str = "0.0.0.0") -> socket.socket:
        """Open a TCP server."""
        with _somewhere(netns):
            server = socket.create_server((address, port))
        server.settimeout(PATIENCE)
        return self.sockets.enter_context(server)

    def connect(
        self, netns: int | None, address: str, port: int, *, patience: float = PATIENCE
    ) -> socket.socket:
        """Open a TCP connection from a namespace; None is the host itself."""
        with _somewhere(netns):
            client = self.sockets.enter_context(socket.socket())
        client.settimeout(patience)
        client.connect((address, port))
        return client

    def reaches(
        self, netns: int | None, address: str, port: int, *, patience: float = PATIENCE
    ) -> bool:
        """Whether a TCP connection can be made."""
        try:
            self.connect(netns, address, port, patience=patience).close()
        except OSError:
            return False
        return True

    def misses(self, netns: int | None, address: str, port: int) -> bool:
        """Whether a TCP connection is refused, or not made soon."""
        return not self.reaches(netns, address, port, patience=IMPATIENCE)

    def talk(self, server: socket.socket, netns: int | None, address: str, port: int) -> str:
        """Exchange bytes over TCP; return the client's address as the server sees it."""
        with self.connect(netns, address, port) as client:
            connection, peer = server.accept()
            with connection:
                connection.settimeout(PATIENCE)
                client.sendall(b"question")
                assert connection.recv(100) == b"question"
                connection.sendall(b"answer")
                assert client.recv(100) == b"answer"
        return str(peer[0])

    def ping(self, netns: int | None, address: str, *, patience: float = PATIENCE) -> bool:
        """Whether an ICMP echo comes back."""
        with (
            _somewhere(netns),
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw,
        ):
            raw.settimeout(patience)
            echo = bytes((8, 0, 0, 0, 0x12, 0x34, 0, 1))
            checksum = 0xFFFF - (0x0800 + 0x1234 + 0x0001)
            raw.connect((address, 0))
            raw.send(echo[:2] + checksum.to_bytes(2, "big") + echo[4:])
            try:
                # Of one's own address the request itself is seen first.
                return any(raw.recv(100)[20] == 0 for _ in range(2))
            except OSError:
                return False

    def unanswered(self, netns: int | None, address: str) -> bool:
        """Whether an ICMP echo is refused, or does not come back soon."""
        return not self.ping(netns, address, patience=IMPATIENCE)

    def datagram(self, netns: int | None, port: int = 0) -> socket.socket:
        """Open a UDP socket."""
        with _somewhere(netns):
            found = self.sockets.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        found.settimeout(PATIENCE)
        found.bind(("0.0.0.0", port))
        return found

    # Looking.

    def run(self, *command: str) -> str:
        """Run a program where the test's thread is; return what it prints."""
        return run(*command)

    def run_in(self, netns: int, *command: str) -> str:
        """Run a program in another namespace."""
        with in_network_namespace(netns):
            return run(*command)

    def set_sysctl(self, name: str, value: str) -> None:
        """Set a kernel parameter of the thread's namespace."""
        path = Path("/proc/sys") / name
        if not path.exists():
            pytest.skip(f"{path} is not here: the kernel has no bridge netfilter (br_netfilter)")
        path.write_text(value)

    def ruleset(self) -> str:
        return run("nft", "list", "ruleset")

    def elements(self, name: str) -> list[Any]:
        """Return what nft shows as the elements of a map or set."""
        text = run("nft", "-j", "list", "map", "ip", self.config.table, name)
        (found,) = (one["map"] for one in json.loads(text)["nftables"] if "map" in one)
        return list(found.get("elem", []))

    def leases(self) -> dict[str, Any]:
        """Return the leases that are on disk."""
        found: dict[str, Any] = {}
        for line in (self.folder / "root" / "endpoints.journal").read_text().splitlines():
            key, value = json.loads(line)
            found[key] = value
        return {key: value for key, value in found.items() if value is not None}

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(run("ip", "-j", "link"))}

    def inside(self, container: Container, *command: str) -> Any:
        """Return what an ``ip -j`` command says in a container's namespace."""
        with in_network_namespace(container.netns):
            return json.loads(run("ip", "-j", *command))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for the kernel to have done something in the background."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within a minute"
            time.sleep(0.01)


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here: apt-get install iproute2 nftables iptables")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Put the test's thread in a network namespace of its own, connected to an outside."""
    _need("ip", "nft")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(CLONE_NEWNET)
    made = Host(tmp_path, -1)
    try:
        made.outside = made.new_namespace()
        run("ip", "link", "set", "lo", "up")
        peer = f"/proc/{os.getpid()}/fd/{made.outside}"
        run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "eth0", "netns", peer)
        run("ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", "wan0")
        run("ip", "link", "set", "wan0", "up")
        with in_network_namespace(made.outside):
            run("ip", "link", "set", "lo", "up")
            run("ip", "address", "add", f"{OUTSIDE_ADDRESS}/24", "dev", "eth0")
            run("ip", "link", "set", "eth0", "up")
        run("ip", "route", "add", "default", "via", OUTSIDE_ADDRESS)
        yield made
    finally:
        made.sockets.close()
        for container in made.containers:
            container.close()
        for driver in made.opened:
            driver.close()
        for descriptor in (*made.namespaces, made.outside):
            if descriptor >= 0:
                os.close(descriptor)
        setns(home, CLONE_NEWNET)
        os.close(home)


@pytest.fixture
def driver(host: Host) -> BridgeDriver:
    """Open the driver with its default configuration."""
    return host.open()


@pytest.fixture
def network(driver: BridgeDriver) -> NetworkSpec:
    """Create the predefined network."""
    return driver.create_network(NetworkSpec("bridge", "bridge"))
