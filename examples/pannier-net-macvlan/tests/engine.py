"""A daemon of the installed Pannier, and its command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Final

__all__ = ["BUSYBOX", "Engine", "busybox_tree"]

BUSYBOX: Final = Path("/usr/bin/busybox")
"""From Debian's package busybox-static."""

_APPLETS: Final = ("cat", "ip", "nc", "ping", "sh", "sleep")
_PATIENCE: Final = 120.0


def busybox_tree() -> bytes:
    """Return a small root filesystem as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        archive.add(BUSYBOX, "bin/busybox")
        for applet in _APPLETS:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
    return out.getvalue()


class Engine:
    """A daemon with folders, a socket and a control group of its own.

    It is in the network namespace of the thread that starts it.
    """

    def __init__(self) -> None:
        # Short, since a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pmv-"))
        self.group = f"pannier-macvlan-{secrets.token_hex(4)}"
        self._socket = self.folder / "s"
        self._config = self.folder / "pannier.toml"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(
            f'[engine]\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'socket = "{self._socket}"\n'
            f'[resources.v1]\nparent = "{self.group}"\n'
            f'[resources.v2]\nparent = "{self.group}"\n'
        )

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        command = [sys.executable, "-m", "pannier.cli", "--config", str(self._config), "daemon"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._socket))
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the daemon did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.02)  # nothing else says when a socket begins to listen

    def kill(self) -> None:
        """End the daemon at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def run(self, *arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``pannier`` with these arguments, whatever becomes of it."""
        pannier = [sys.executable, "-m", "pannier.cli", "--config", str(self._config)]
        done = subprocess.run(
            [*pannier, "-H", f"unix://{self._socket}", *arguments],
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
        return done.stdout.strip()

    def inspect(self, *what: str) -> dict[str, Any]:
        """Return what ``pannier WHAT inspect`` says of one thing."""
        *kind, name = what
        found: list[dict[str, Any]] = json.loads(self.cli(*kind, "inspect", name))
        return found[0]

    def endpoint(self, container: str, network: str) -> dict[str, Any]:
        """Return what a container has on a network."""
        found: dict[str, Any] = self.inspect(container)["NetworkSettings"]["Networks"][network]
        return found

    def close(self) -> None:
        """Remove every container, stop, and remove the folders."""
        try:
            if self._process is not None:
                if self._process.poll() is not None:
                    self.start()
                containers = self.cli("ps", "-aq").split()
                if containers:
                    self.cli("rm", "-f", *containers)
                self._process.send_signal(signal.SIGTERM)
                assert self._process.wait(_PATIENCE) == 0, self._log.read_text()[-3000:]
        finally:
            if self._process is not None and self._process.poll() is None:
                self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """Return the processes, mounts and control groups that a closed daemon left behind."""
        needle = str(self.folder)
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if needle in line and path.parent.name != str(os.getpid()):
                    found.append(f"process {line}")
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if needle in line]
        for top, folders, _ in os.walk("/sys/fs/cgroup"):
            found += [f"cgroup {top}/{name}" for name in folders if name == self.group]
        return found
