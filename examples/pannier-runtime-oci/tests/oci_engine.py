"""A daemon of the installed Pannier in a network namespace of its own, and its command line."""

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
from typing import Any, Final

__all__ = ["Engine"]

_PATIENCE: Final = 120.0
_CLI: Final = [sys.executable, "-m", "pannier.cli"]


class Engine:
    """A daemon with folders, a socket and a control group of its own.

    :param runtime: the program of ``[runtime.runc]``.
    """

    def __init__(self, runtime: str = "runc") -> None:
        # Short, since a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="po-"))
        self.group = f"pannier-oci-test-{secrets.token_hex(4)}"
        self._socket = self.folder / "s"
        self._config = self.folder / "pannier.toml"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace = -1
        self._config.write_text(
            f'[engine]\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'socket = "{self._socket}"\n'
            f'[resources.v1]\nparent = "{self.group}"\n'
            f'[resources.v2]\nparent = "{self.group}"\n'
            f'[runtime.runc]\npath = "{runtime}"\n'
        )

    def start(self) -> None:
        """Start the daemon, where its predecessor was if there was one; wait until it answers."""
        daemon = [*_CLI, "--config", str(self._config), "daemon"]
        if self._namespace < 0:
            script = 'ip link set lo up && exec "$@"'
            command = ["unshare", "--net", "sh", "-c", script, "sh", *daemon]
        else:
            place = f"/proc/{os.getpid()}/fd/{self._namespace}"
            command = ["nsenter", f"--net={place}", *daemon]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        self._await_answer()
        if self._namespace < 0:
            path = f"/proc/{self._process.pid}/ns/net"
            self._namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._socket))
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the daemon did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.02)  # nothing else says when a socket begins to listen

    def stop(self) -> None:
        """End the daemon in good order; containers go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(_PATIENCE) == 0, self._log.read_text()[-3000:]

    def kill(self) -> None:
        """End the daemon at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def command(self, *arguments: str) -> list[str]:
        """Return how ``pannier`` is called with these arguments."""
        return [
            *(*_CLI, "--config", str(self._config), "-H", f"unix://{self._socket}"),
            *arguments,
        ]

    def run(self, *arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``pannier`` with these arguments, whatever becomes of it."""
        done = subprocess.run(
            self.command(*arguments),
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
            cwd="/",
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def cli(self, *arguments: str, data: bytes | None = None) -> str:
        """Run ``pannier`` with these arguments; it must succeed. Return what it printed."""
        done = self.run(*arguments, data=data)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what ``pannier inspect`` says of one container."""
        found: list[dict[str, Any]] = json.loads(self.cli("inspect", name))
        return found[0]

    def close(self) -> None:
        """Remove every container, stop, and remove the folders."""
        try:
            if self._process is not None:
                if self._process.poll() is not None:
                    self.start()
                containers = self.cli("ps", "-aq").split()
                if containers:
                    self.cli("rm", "-f", *containers)
                self.stop()
        finally:
            if self._process is not None and self._process.poll() is None:
                self.kill()
            if self._namespace >= 0:
                os.close(self._namespace)
            shutil.rmtree(self.folder, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """Return the processes, mounts and control groups that a closed daemon left behind."""
        needle = str(self.folder)
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
                links.append(str((entry / "cwd").readlink()))
                if any(link.startswith(needle) for link in links):
                    found.append(f"process {(entry / 'cmdline').read_bytes()!r}")
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if needle in line]
        for top, folders, _ in os.walk("/sys/fs/cgroup"):
            found += [f"group {top}/{name}" for name in folders if name.startswith(self.group)]
        return found
