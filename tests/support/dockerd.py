"""Docker's own daemon, apart from everything else on the host, to compare with."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Dockerd", "running_dockerd", "why_not"]

_SECONDS = 60.0


def why_not() -> str:
    """Return what is missing for a dockerd here; empty where nothing is."""
    for name in ("dockerd", "docker", "containerd"):
        if shutil.which(name) is None:
            return f"needs {name}: apt-get install docker.io"
    if os.geteuid() != 0:
        return "needs root"
    return ""


class Dockerd:
    """A running dockerd.

    :param folder: everything it writes is in there.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/s"
        self._process = process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def docker(
        self, *arguments: str, data: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the docker client, with the builder of before BuildKit."""
        environment = {
            **os.environ,
            "DOCKER_HOST": self.host,
            "DOCKER_API_VERSION": "1.41",
            "DOCKER_BUILDKIT": "0",
        }
        return subprocess.run(
            ["docker", *arguments],
            env=environment,
            input=data,
            capture_output=True,
            check=check,
            timeout=300,
        )

    def stop(self) -> None:
        """End it and what it has mounted."""
        self._process.terminate()
        self._process.wait(60)
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for line in reversed(mounts):
            target = line.split()[1]
            if target.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", target], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running_dockerd() -> Iterator[Dockerd]:
    """Give a dockerd in a network namespace of its own, with folders of its own."""
    folder = Path(tempfile.mkdtemp(prefix="pk-"))
    words = [
        *("dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
        *("--pidfile", f"{folder}/pid", "-H", f"unix://{folder}/s"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *words],
            stdout=log,
            stderr=log,
        )
    daemon = Dockerd(folder, process)
    try:
        deadline = time.monotonic() + _SECONDS
        while daemon.docker("version", check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                text = (folder / "log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"dockerd did not start:\n{text}")
            time.sleep(0.1)  # nothing else says when it answers
        yield daemon
    finally:
        daemon.stop()
