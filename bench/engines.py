"""The engines that are compared: Pannier, and the peers that this machine has.

Each gets a network namespace, folders and (where it has one) a daemon of its own, so that the host
stays as it is and the engines do not see one another.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from large import Registry

__all__ = ["Docker", "Engine", "Pannier", "Podman", "available", "busybox_tar"]

IMAGE = "busybox"
_START_SECONDS = 40
_APPLETS = ("sh", "true", "sleep", "cat", "head", "yes", "echo", "ls", "dd", "seq")
_PYTHON_BIN = Path(sys.executable).parent


def busybox_tar() -> bytes:
    """Return a root filesystem of Debian's busybox-static, as a tar archive."""
    binary = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(
            name: str, kind: bytes, data: bytes = b"", link: str = "", mode: int = 0o755
        ) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(data)
            archive.addfile(entry, io.BytesIO(data))

        for folder in ("bin", "etc", "proc", "sys", "dev", "root", "tmp"):
            add(folder, tarfile.DIRTYPE)
        add("bin/busybox", tarfile.REGTYPE, binary)
        for applet in _APPLETS:
            add(f"bin/{applet}", tarfile.SYMTYPE, link="busybox")
        add("etc/passwd", tarfile.REGTYPE, b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
        add("etc/group", tarfile.REGTYPE, b"root:x:0:\n", mode=0o644)
    return buffer.getvalue()


class Engine:
    """An engine under measurement.

    :ivar api: the address of its Docker Engine API for docker-py; empty where it has none.
    """

    name = ""
    api = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.holder: subprocess.Popen[bytes] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None
        self.registries: list[Registry] = []

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of the engine's own client."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the client's environment."""
        return dict(os.environ)

    def start(self) -> None:
        """Start the daemon, where there is one."""

    def run(self, *arguments: str, data: bytes | None = None) -> str:
        """Run the engine's client and return what it prints."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            input=data,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} {arguments}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    @contextlib.contextmanager
    def running(self) -> Iterator[Engine]:
        """Have the engine up with its image, and nothing of it left behind."""
        self.folder.mkdir(parents=True)
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        try:
            ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{self.holder.pid}/ns/net")
            while ours.readlink() == theirs.readlink():
                time.sleep(0.01)
            subprocess.run([*self.inside(), "ip", "link", "set", "lo", "up"], check=True)
            self.start()
            self.run("import", "-", IMAGE, data=busybox_tar())
            yield self
            self.remove_all()
        finally:
            self.stop()
            self.holder.kill()
            self.holder.wait()
            _unmount_below(self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)

    def inside(self) -> list[str]:
        """Return the words that put a command into the engine's network namespace."""
        assert self.holder is not None
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def remove_all(self) -> None:
        """Remove every container."""
        found = self.run("ps", "-aq").split()
        for start in range(0, len(found), 50):
            self.run("rm", "-f", *found[start : start + 50])

    def stop(self) -> None:
        """Stop the daemon, and its registries."""
        for registry in self.registries:
            registry.stop()
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(30)

    def _await_socket(self, path: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(RuntimeError, OSError):
                self.run("version")
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer on {path}")
            time.sleep(0.1)

    def _spawn(self, words: Sequence[str], environment: dict[str, str] | None = None) -> None:
        log = (self.folder / "log").open("wb")
        self.daemon = subprocess.Popen(
            [*self.inside(), *words], stdout=log, stderr=log, env=environment
        )
        log.close()


class Pannier(Engine):
    """This project, as it is installed beside the running Python."""

    name = "pannier"

    def start(self) -> None:
        """Start the daemon on a configuration of its own."""
        config = self.folder / "pannier.toml"
        socket = self.folder / "s"
        config.write_text(
            f'[engine]\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'socket = "{socket}"\n'
            f'[resources.v1]\nparent = "pannier-bench"\n[resources.v2]\nparent = "pannier-bench"\n'
        )
        self.api = f"unix://{socket}"
        words = [sys.executable, "-m", "pannier.daemon", "--config", str(config)]
        self._spawn(words, self.environment())
        self._await_socket(socket)

    def command(self, *arguments: str) -> list[str]:
        """Return pannier's command line."""
        return [str(_PYTHON_BIN / "pannier"), *arguments]

    def environment(self) -> dict[str, str]:
        """Return an environment that names the socket.

        pip compiles what it installs; an editable installation compiles itself with the first,
        unmeasured, run, where the environment does not forbid it. Without that, compiling would be
        most of what every command does.
        """
        own = {**os.environ, "PANNIER_HOST": self.api}
        own.pop("PYTHONDONTWRITEBYTECODE", None)
        return own


class Docker(Engine):
    """Docker, as Debian packages it."""

    name = "docker"

    def start(self) -> None:
        """Start dockerd with folders of its own."""
        socket = self.folder / "docker.sock"
        self.api = f"unix://{socket}"
        self._spawn(
            [
                "dockerd",
                *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
                *("--pidfile", f"{self.folder}/pid", "-H", self.api),
            ]
        )
        self._await_socket(socket)

    def command(self, *arguments: str) -> list[str]:
        """Return docker's command line."""
        return ["docker", *arguments]

    def environment(self) -> dict[str, str]:
        """Return an environment that names the socket and a version that dockerd speaks."""
        return {**os.environ, "DOCKER_HOST": self.api, "DOCKER_API_VERSION": "1.41"}


class Podman(Engine):
    """Podman, as Debian packages it, on runc (crun refuses hybrid cgroup hosts)."""

    name = "podman"

    def start(self) -> None:
        """Write the configuration that a machine without systemd needs."""
        (self.folder / "containers.conf").write_text(
            '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
            '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n'
        )

    def command(self, *arguments: str) -> list[str]:
        """Return podman's command line, inside the namespace."""
        return [
            *self.inside(),
            "podman",
            *("--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run"),
            *("--runtime", "runc", *arguments),
        ]

    def environment(self) -> dict[str, str]:
        """Return an environment that names the configuration."""
        return {**os.environ, "CONTAINERS_CONF": f"{self.folder}/containers.conf"}


def available(names: Sequence[str], folder: Path) -> list[Engine]:
    """Return the engines of *names* that are installed, each with a folder of its own."""
    kinds: dict[str, tuple[type[Engine], str]] = {
        "pannier": (Pannier, str(_PYTHON_BIN / "pannier")),
        "docker": (Docker, "dockerd"),
        "podman": (Podman, "podman"),
    }
    return [
        kind(folder / kind.name)
        for name, (kind, binary) in kinds.items()
        if name in names and shutil.which(binary)
    ]


def _unmount_below(folder: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for line in reversed(mounts):
        target = line.split()[1]
        if target.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", target], check=False)
