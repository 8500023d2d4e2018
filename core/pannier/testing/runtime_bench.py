"""What the runtime driver's tests share: a root, specifications, containers and their clients."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import pytest

from pannier.drivers.runtime import (
    Connection,
    CreateRequest,
    DetachEvent,
    ExecRequest,
    ExitEvent,
    RuntimeDriver,
    StdioSpec,
)
from pannier.linux.mounts import clone_tree
from pannier.testing.base import Conformance, Opened
from pannier.testing.leaks import wait_until
from pannier.testing.runtime_root import make_host_root

if TYPE_CHECKING:
    from pannier.drivers import oci
    from pannier.drivers.runtime import RuntimeWatch

__all__ = [
    "CAPABILITIES",
    "FOREVER",
    "MASKED",
    "READONLY",
    "Client",
    "Result",
    "RuntimeBench",
    "RuntimeTests",
    "make_spec",
    "unframe",
]

CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")
MASKED: Final = ("/proc/keys", "/proc/timer_list", "/sys/firmware")
READONLY: Final = ("/proc/sys", "/proc/sysrq-trigger")
FOREVER: Final = ("sleep", "1000")

_PATIENCE: Final = 60.0
_PIECE: Final = 1 << 16
_HARD: Final = ("nosuid", "noexec", "nodev")


def _mounts() -> list[oci.Mount]:
    """Return the mounts that engines give to every container."""
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": list(_HARD)},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_HARD, "ro"]},
    ]


def make_spec(*args: str, **process: Any) -> oci.Spec:
    """Return a specification as the engine writes it for a container without extras.

    :param process: fields of the OCI ``process`` object.
    """
    capabilities = list(CAPABILITIES)
    return {
        "ociVersion": "1.0.2",
        "hostname": "kit",
        "root": {"path": "/"},
        "mounts": _mounts(),
        "process": cast(
            "oci.Process",
            {
                "args": list(args),
                "cwd": "/",
                "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0},
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
                **process,
            },
        ),
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("mount", "pid", "uts", "ipc", "network", "cgroup")
            ],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def unframe(data: bytes) -> dict[int, bytes]:
    """Take the streams of an attach apart; a frame that is cut short fails."""
    streams: dict[int, list[bytes]] = {1: [], 2: []}
    at = 0
    while at < len(data):
        stream, padding = data[at], data[at + 1 : at + 4]
        assert stream in streams, f"a frame of stream {stream}"
        assert padding == bytes(3), "a frame's header is not (stream, 0, 0, 0, length)"
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        assert end <= len(data), "a frame was cut short"
        streams[stream].append(data[at + 8 : end])
        at = end
    return {stream: b"".join(parts) for stream, parts in streams.items()}


class Client:
    """A client's end of a connection to a process's streams."""

    def __init__(self) -> None:
        self.socket, self._theirs = socket.socketpair()
        self.socket.settimeout(_PATIENCE)

    def connection(self, **options: Any) -> Connection:
        """Return the connection to hand over; the client takes part in all streams."""
        wanted = {"stdin": True, "stdout": True, "stderr": True, **options}
        return Connection(self._theirs.fileno(), **wanted)

    def handed_over(self) -> None:
        """Close our copy of the end that the driver has now."""
        self._theirs.close()

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Send input, and with *last* its end."""
        self.socket.sendall(data)
        if last:
            self.socket.shutdown(socket.SHUT_WR)

    def raw(self) -> bytes:
        """Return all output up to the end of the connection."""
        parts = []
        while part := self.socket.recv(_PIECE):
            parts.append(part)
        return b"".join(parts)

    def streams(self) -> dict[int, bytes]:
        """Return all output up to the end of the connection, by stream."""
        return unframe(self.raw())

    def until(self, text: bytes) -> bytes:
        """Read until *text* has come; return all that was read, frames included."""
        got = b""
        while text not in got:
            part = self.socket.recv(_PIECE)
            assert part, f"the end came before {text!r}: {got!r}"
            got += part
        return got

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self.socket.close()
        self._theirs.close()


@dataclass(frozen=True, slots=True)
class Result:
    """What a process left behind."""

    status: int
    out: str
    err: str


@dataclass
class RuntimeBench:
    """The driver with containers of one root; remembers what it made.

    :param rootfs: the folder that is every container's root.
    :param patience: seconds that processes may take to end.
    """

    opened: Opened[RuntimeDriver]
    rootfs: Path
    patience: float
    made: list[str] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    @property
    def driver(self) -> RuntimeDriver:
        """The instance that is open now."""
        return self.opened.driver

    def request(self, id: str, spec: oci.Spec, **options: Any) -> CreateRequest:
        """Return a request without a root, as a plan that is only described has it."""
        return CreateRequest(id=id, spec=spec, root=-1, **options)

    def rooted(self, spec: oci.Spec, id: str = "box", **options: Any) -> CreateRequest:
        """Return a request with a root, whose descriptor is closed after the test."""
        self.roots.append(clone_tree(self.rootfs))
        return replace(self.request(id, spec, **options), root=self.roots[-1])

    def create(self, spec: oci.Spec, id: str = "box", **options: Any) -> None:
        """Create a container; it is deleted after the test."""
        self.made.append(id)
        root = clone_tree(self.rootfs)
        try:
            request = replace(self.request(id, spec, **options), root=root)
            state = self.opened.run(self.driver.plan_create(request))
        finally:
            os.close(root)
        assert (state.id, state.status) == (id, "created")
        self.pids.append(state.pid)

    def client(self) -> Client:
        """Return a new client; it is closed after the test."""
        client = Client()
        self.clients.append(client)
        return client

    def start(self, id: str = "box", **options: Any) -> Client:
        """Start a container with a client attached from the first byte."""
        client = self.client()
        self.driver.start(id, [client.connection(**options)])
        client.handed_over()
        return client

    def attach(self, id: str = "box", exec_id: str | None = None, **options: Any) -> Client:
        """Attach a client to a running process."""
        client = self.client()
        self.driver.attach(id, client.connection(**options), exec_id)
        client.handed_over()
        return client

    def runs(self, spec: oci.Spec, id: str = "box", **options: Any) -> Client:
        """Create a container and start it."""
        self.create(spec, id, **options)
        return self.start(id)

    def wait(self, id: str = "box", exec_id: str | None = None) -> ExitEvent:
        """Wait for a process's end."""
        watch = self.driver.watch(id)
        try:
            return wait_for(watch, exec_id)
        finally:
            watch.close()

    def run(self, spec: oci.Spec, id: str = "box", **options: Any) -> Result:
        """Create, start, wait and delete; return what came out."""
        client = self.runs(spec, id, **options)
        if options.get("stdio", StdioSpec()).terminal:
            out, err = client.raw(), b""
        else:
            out, err = client.streams().values()
        status = self.wait(id).exit_status
        self.driver.delete(id)
        return Result(status, out.decode(), err.decode())

    def sh(self, script: str, id: str = "box", **options: Any) -> Result:
        """Run a shell script in a container without extras."""
        return self.run(make_spec("sh", "-c", script), id, **options)

    def exec(
        self, *args: str, id: str = "box", exec_id: str = "x", stdin: bytes = b"", **process: Any
    ) -> Result:
        """Run a further process; return what came out."""
        client = self.client()
        watch = self.driver.watch(id)
        request = ExecRequest(
            exec_id,
            make_spec(*args, **process)["process"],
            StdioSpec(stdin=True),
            client.connection(),
        )
        try:
            self.driver.exec(id, request)
            client.handed_over()
            with contextlib.suppress(OSError):  # it has ended without reading its input
                client.send(stdin, last=True)
            out, err = client.streams().values()
            status = wait_for(watch, exec_id).exit_status
        finally:
            watch.close()
        return Result(status, out.decode(), err.decode())

    def sweep(self, driver: RuntimeDriver) -> None:
        """Delete every container, each twice; none may be listed, and no process may live."""
        for client in self.clients:
            client.close()
        while self.roots:
            os.close(self.roots.pop())
        for id in dict.fromkeys(self.made):
            for _ in range(2):
                driver.delete(id)
        assert list(driver.containers()) == [], "deleted containers are still listed"
        wait_until(lambda: not any(map(is_alive, self.pids)), self.patience)
        left = [pid for pid in self.pids if is_alive(pid)]
        assert left == [], "first processes of deleted containers live on"

    def give_up(self) -> None:
        """Kill what still lives, after a failed test."""
        for pid in self.pids:
            if is_alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def events(watch: RuntimeWatch) -> list[ExitEvent | DetachEvent]:
    """Wait for a watch to have something to give."""
    readable, _, _ = select.select([watch], [], [], _PATIENCE)
    assert readable, "no event came"
    return watch.read()


def wait_for(watch: RuntimeWatch, exec_id: str | None) -> ExitEvent:
    """Wait until a watch tells of a process's end."""
    while True:
        for event in events(watch):
            if isinstance(event, DetachEvent):
                continue
            if event.exec_id == exec_id:
                return event
            assert event.exec_id is not None, "the container has ended"


def departures(watch: RuntimeWatch) -> list[DetachEvent]:
    """Return whom a watch tells to have left by keys, until the container's end."""
    found = []
    while True:
        for event in events(watch):
            if isinstance(event, DetachEvent):
                found.append(event)
            elif event.exec_id is None:
                return found


class RuntimeTests(Conformance[RuntimeDriver]):
    """What the parts of the runtime kit share."""

    contract: ClassVar[type[RuntimeDriver]] = RuntimeDriver

    _bench: RuntimeBench | None = None

    @pytest.fixture
    def container_root(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder with the programs that the tests run; override it to supply another.

        The kit copies those of the host, with their libraries. Each test has a copy (hard links).
        """
        folder = tmp_path_factory.getbasetemp() / "pannier-kit-root"
        if not folder.exists():
            folder.mkdir()
            make_host_root(folder)
        return folder

    @pytest.fixture
    def bench(
        self, opened: Opened[RuntimeDriver], container_root: Path, place: Path
    ) -> RuntimeBench:
        """Return the driver with a root of the test's own."""
        root = place / "rootfs"
        shutil.copytree(container_root, root, symlinks=True, copy_function=_link)
        self._bench = RuntimeBench(opened, root, self.patience)
        return self._bench

    def sweep(self, driver: RuntimeDriver) -> None:
        """Delete the containers of the test, each twice."""
        if self._bench is None:
            return
        try:
            self._bench.sweep(driver)
        finally:
            self._bench.give_up()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem
        shutil.copy2(source, target)
