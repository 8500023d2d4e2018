"""A daemon of a test's own: own network namespace, own folders, own control group."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.linux.namespaces import in_network_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Daemon", "leftovers", "processes_of"]

_START_SECONDS = 600.0  # it is said to start at once; not so in an emulated machine

_MATRIX = {
    table: f'{key} = "{value}"'
    for table, key, value in (
        ("drivers", "storage", os.environ.get("PANNIER_TEST_STORAGE")),
        ("network__bridge", "firewall", os.environ.get("PANNIER_TEST_FIREWALL")),
    )
    if value
}
"""What a column of the test matrix has every daemon use, unless a test says otherwise."""


class Daemon:
    """A daemon process and the clients that talk to it.

    :cvar namespaces: flags of ``unshare``, for what it does not share with the host.
    :cvar script: what is done in there first; it goes on as the daemon, which is its arguments.
    :param settings: further TOML text for the configuration file, by table.
    :ivar python: the interpreter of the environment that Pannier is installed in.
    """

    namespaces: ClassVar[tuple[str, ...]] = ("--net",)
    script: ClassVar[str] = 'ip link set lo up && exec "$@"'

    def __init__(self, **settings: str) -> None:
        # Short, since a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pt-"))
        self.group = f"pannier-test-{secrets.token_hex(4)}"
        self.socket = self.folder / "s"
        self.config = self.folder / "pannier.toml"
        self.log = self.folder / "log"
        self.python = Path(sys.executable)
        self.process: subprocess.Popen[bytes] | None = None
        self._namespace = -1
        tables = {
            "engine": f'root = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'socket = "{self.socket}"\n',
            "resources.v1": f'parent = "{self.group}"\n',
            "resources.v2": f'parent = "{self.group}"\n',
        }
        for table, text in (_MATRIX | settings).items():
            name = table.replace("__", ".")
            tables[name] = tables.get(name, "") + text + "\n"
        self.config.write_text("".join(f"[{name}]\n{text}" for name, text in tables.items()))

    # Life.

    def start(self) -> None:
        """Start the daemon, in the namespace of its predecessor where there was one, and wait."""
        self.launch()
        self._await_answer()
        assert self.process is not None
        if self._namespace < 0:
            path = f"/proc/{self.process.pid}/ns/net"
            self._namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def launch(self) -> None:
        """Start the daemon, and do not wait until it answers."""
        command = [
            str(self.python),
            "-X",
            "dev",
            "-m",
            "pannier.daemon",
            "--config",
            str(self.config),
        ]
        if self._namespace < 0:
            command = ["unshare", *self.namespaces, "sh", "-ec", self.script, "sh", *command]
        else:
            command = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._namespace}", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _await_answer(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the daemon did not start:\n{self.log.read_text()[-5000:]}")
            time.sleep(0.02)  # nothing else says when a socket begins to listen

    def kill(self) -> None:
        """End the daemon at once, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the daemon in good order, which it must say by its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(120) == 0, self.log.read_text()[-3000:]

    def close(self) -> None:
        """Remove every container, stop, and remove the folders."""
        try:
            if self.process is not None and self.process.poll() is not None:
                self.start()
            if self.process is not None:
                found = self.cli("ps", "-aq").stdout.split()
                for begin in range(0, len(found), 100):
                    self.cli("rm", "-f", *found[begin : begin + 100])
                self.stop()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill()
            if self._namespace >= 0:
                os.close(self._namespace)
            shutil.rmtree(self.folder, ignore_errors=True)

    # Clients.

    @property
    def host(self) -> str:
        """The address for DOCKER_HOST."""
        return f"unix://{self.socket}"

    def client(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin to run ``pannier`` with these arguments, without input."""
        return subprocess.Popen(
            [str(self.python.with_name("pannier")), *arguments],
            env=os.environ | {"PANNIER_HOST": self.host},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(
        self,
        *arguments: str,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``pannier`` with these arguments."""
        return _run(
            [str(self.python.with_name("pannier")), *arguments],
            {"PANNIER_HOST": self.host},
            input,
            check,
            timeout,
        )

    def docker(
        self,
        *arguments: str,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run the ``docker`` client with these arguments."""
        return _run(["docker", *arguments], {"DOCKER_HOST": self.host}, input, check, timeout)

    @property
    def clients(self) -> list[Callable[..., subprocess.CompletedProcess[str]]]:
        """Our own client, and Docker's where it is installed: both are to show the same."""
        return [self.cli, self.docker] if shutil.which("docker") else [self.cli]

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what ``pannier inspect`` says of one thing."""
        found: list[dict[str, Any]] = json.loads(self.cli("inspect", name).stdout)
        return found[0]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread in the daemon's network namespace: where published ports answer."""
        with in_network_namespace(self._namespace):
            yield


def _run(
    command: list[str],
    environment: dict[str, str],
    data: str | bytes | None,
    check: bool,
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    raw = data.encode() if isinstance(data, str) else data
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        input=raw,
        stdin=subprocess.DEVNULL if raw is None else None,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    result = subprocess.CompletedProcess(
        command,
        done.returncode,
        done.stdout.decode(errors="surrogateescape"),
        done.stderr.decode(errors="surrogateescape"),
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}\n{result.stdout}\n{result.stderr}"
        )
    return result


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that have something of *folder* open or named."""
    found = []
    needle = str(folder)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
            if needle in line or any(link.startswith(needle) for link in links):
                found.append(f"{entry.name} {line}")
    return found


def leftovers(daemon: Daemon) -> list[str]:
    """Return what a closed daemon left on the host: processes, mounts, control groups, files."""
    found = [f"process {line}" for line in processes_of(daemon.folder)]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if str(daemon.folder) in line]
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [f"cgroup {top}/{name}" for name in folders if name.startswith(daemon.group)]
    if daemon.folder.exists():
        found.append(f"folder {daemon.folder}")
    return found
