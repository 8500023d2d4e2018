"""Running containers with the native runtime and nothing else of Pannier, for tests."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.operations import Transaction
from pannier.drivers.runtime import Connection, CreateRequest, ExecRequest, ExitEvent, StdioSpec
from pannier.linux.mounts import clone_tree, mount_setattr

if TYPE_CHECKING:
    from pannier.drivers import oci
    from pannier.drivers.base import DriverContext
    from pannier_runtime_native.driver import NativeRuntime

BUSYBOX = Path("/usr/bin/busybox")
_NAMES = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
    SYS_CHROOT KILL AUDIT_WRITE
"""
DEFAULT_CAPABILITIES = [f"CAP_{name}" for name in _NAMES.split()]
MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def default_mounts() -> list[oci.Mount]:
    """Return the mounts that Docker gives every container."""
    hard = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": hard},
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
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*hard, "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": hard},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*hard, "mode=1777", "size=65536k"],
        },
    ]


def make_spec(*args: str, **process: Any) -> oci.Spec:
    """Return a specification as an engine would write it for a container without extras."""
    capabilities = DEFAULT_CAPABILITIES
    return {
        "ociVersion": "1.0.2",
        "hostname": "box",
        "root": {"path": "/"},
        "mounts": default_mounts(),
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
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    }


IDMAP = IdMap((IdMapping(0, 1_000_000, 65536),), (IdMapping(0, 1_000_000, 65536),))


class Client:
    """A client's end of a connection to streams; gathers what comes."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.socket, self.theirs = socket.socketpair()
        self.socket.settimeout(60)
        self.terminal = terminal

    def connection(self, **options: Any) -> Connection:
        wanted = {"stdin": True, "stdout": True, "stderr": True, **options}
        return Connection(self.theirs.fileno(), **wanted)

    def handed_over(self) -> None:
        self.theirs.close()

    def send(self, data: bytes, *, last: bool = False) -> None:
        self.socket.sendall(data)
        if last:
            self.half_close()

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def raw(self) -> bytes:
        """Return everything up to the end."""
        parts = []
        while part := self.socket.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)

    def streams(self) -> dict[int, bytes]:
        """Return everything up to the end, by stream."""
        return unframe(self.raw())

    def until(self, text: bytes) -> bytes:
        """Read until *text* has come."""
        got = b""
        while text not in got:
            part = self.socket.recv(1 << 16)
            assert part, f"the end came before {text!r}: {got!r}"
            got += part
        return got

    def close(self) -> None:
        self.socket.close()
        self.theirs.close()


def unframe(data: bytes) -> dict[int, bytes]:
    """Take the streams apart; a frame cut short fails."""
    streams: dict[int, list[bytes]] = {1: [], 2: []}
    at = 0
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        assert end <= len(data), "a frame was cut short"
        streams[data[at]].append(data[at + 8 : end])
        at = end
    return {stream: b"".join(parts) for stream, parts in streams.items()}


@dataclass
class Box:
    """A driver with containers of one root."""

    driver: NativeRuntime
    context: DriverContext
    rootfs: Path
    made: list[str] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def root(self, idmap: IdMap | None = None) -> int:
        """Return a detached mount of the root, as a storage driver hands it over."""
        root = clone_tree(self.rootfs)
        if idmap is not None:
            with user_namespace(idmap) as namespace:
                mount_setattr(root, set=0x100000, userns_fd=namespace)
        return root

    def request(self, id: str, spec: oci.Spec, **options: Any) -> CreateRequest:
        stdio = options.pop("stdio", StdioSpec())
        return CreateRequest(id=id, spec=spec, root=-1, stdio=stdio, **options)

    def create(self, id: str, spec: oci.Spec, **options: Any) -> None:
        with self._lock:
            self.made.append(id)
        root = self.root(options.get("idmap"))
        try:
            request = replace(self.request(id, spec, **options), root=root)
            Transaction().run(self.driver.plan_create(request))
        finally:
            os.close(root)

    def client(self, *, terminal: bool = False) -> Client:
        client = Client(terminal=terminal)
        self.clients.append(client)
        return client

    def start(self, id: str, **options: Any) -> Client:
        """Start with a client attached."""
        client = self.client()
        self.driver.start(id, [client.connection(**options)])
        client.handed_over()
        return client

    def wait(self, id: str) -> ExitEvent:
        """Wait for the container's end."""
        watch = self.driver.watch(id)
        try:
            while True:
                for event in next_events(watch):
                    if event.exec_id is None:
                        return event
        finally:
            watch.close()

    def run(self, spec: oci.Spec, id: str = "box", **options: Any) -> Result:
        """Create, start and wait; return what came out. The container is deleted."""
        self.create(id, spec, **options)
        client = self.start(id)
        if options.get("stdio", StdioSpec()).terminal:
            out, err = client.raw(), b""
        else:
            out, err = client.streams().values()
        event = self.wait(id)
        self.driver.delete(id)
        return Result(event.exit_status, out.decode(), err.decode())

    def sh(self, script: str, **options: Any) -> Result:
        """Run a shell script in a container with the usual specification."""
        return self.run(make_spec("sh", "-c", script), **options)

    def exec(self, id: str, *args: str, exec_id: str = "x", **process: Any) -> Result:
        """Run a further process; return what came out."""
        client = self.client()
        watch = self.driver.watch(id)
        terminal = process.pop("tty", False)
        request = ExecRequest(
            exec_id,
            make_spec(*args, **process)["process"],
            StdioSpec(terminal=terminal, stdin=True),
            client.connection(),
        )
        try:
            self.driver.exec(id, request)
            client.handed_over()
            if terminal:
                out, err = client.raw(), b""
            else:
                client.half_close()
                out, err = client.streams().values()
            status = exec_status(watch, exec_id)
        finally:
            watch.close()
        return Result(status, out.decode(), err.decode())


def next_events(watch: Any) -> list[ExitEvent]:
    """Wait for a watch to have something to give."""
    readable, _, _ = select.select([watch], [], [], 30)
    assert readable, "no event came"
    return [event for event in watch.read() if isinstance(event, ExitEvent)]


def exec_status(watch: Any, exec_id: str) -> int:
    """Wait for an added process to end."""
    while True:
        for event in next_events(watch):
            if event.exec_id == exec_id:
                status: int = event.exit_status
                return status
            assert event.exec_id is not None, "the container has ended"


@dataclass(frozen=True)
class Result:
    """What a process left behind."""

    status: int
    out: str
    err: str


class user_namespace:  # noqa: N801 - used as a function
    """Hold a user namespace with a map open, for an idmapped mount."""

    def __init__(self, idmap: IdMap) -> None:
        self._idmap = idmap

    def __enter__(self) -> int:
        self._process = subprocess.Popen(
            ["unshare", "--user", "sh", "-c", "echo; read _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        base = Path(f"/proc/{self._process.pid}")
        for name, ranges in (("uid_map", self._idmap.uids), ("gid_map", self._idmap.gids)):
            text = "".join(f"{item.container} {item.host} {item.size}\n" for item in ranges)
            (base / name).write_text(text)
        self._descriptor = os.open(base / "ns/user", os.O_RDONLY)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._process.communicate()
