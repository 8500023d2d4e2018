"""An installed Pannier of a test's own: a daemon, and the command line that talks to it."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(sys.executable).parent / "pannier"
BUSYBOX = "/bin/busybox"


class Engine:
    """A daemon in a network namespace of its own, with its own folders and control group.

    :param tables: further text for the configuration file.
    """

    def __init__(self, tables: str) -> None:
        """Make the folders and the configuration; nothing is started."""
        # Short, since a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pb-"))
        self.socket = self.folder / "s"
        self.log = self.folder / "log"
        self.config = self.folder / "pannier.toml"
        group = f"pannier-btrfs-{secrets.token_hex(4)}"
        self.config.write_text(
            f'[engine]\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'socket = "{self.socket}"\n'
            f'[resources.v1]\nparent = "{group}"\n[resources.v2]\nparent = "{group}"\n{tables}'
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace = -1

    def start(self) -> None:
        """Start the daemon, in its predecessor's namespace if there was one; wait until it does."""
        command = [str(PROGRAM), "--config", str(self.config), "daemon"]
        if self._namespace < 0:
            command = [
                "unshare",
                "--net",
                "sh",
                "-c",
                'ip link set lo up; exec "$@"',
                "-",
                *command,
            ]
        else:
            command = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._namespace}", *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        while not self._answers():
            if self._process.poll() is not None:
                raise AssertionError(f"the daemon did not start:\n{self.log.read_text()}")
            time.sleep(0.02)  # nothing tells when a socket begins to listen
        if self._namespace < 0:
            self._namespace = os.open(f"/proc/{self._process.pid}/ns/net", os.O_RDONLY)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            return True
        return False

    def kill(self) -> None:
        """End the daemon at once, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Remove every container, end the daemon in good order, and remove its folders."""
        try:
            if self._process is not None and self._process.poll() is None:
                if containers := self("ps", "-aq").split():
                    self("rm", "-f", *containers)
                self._process.terminate()
                status = self._process.wait(60)
                assert status == 0, self.log.read_text()
        finally:
            if self._process is not None and self._process.poll() is None:
                self.kill()
            if self._namespace >= 0:
                os.close(self._namespace)
            shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, *arguments: str, data: bytes | None = None, status: int = 0) -> str:
        """Run ``pannier -H`` with these arguments; return what it printed, errors too."""
        done = subprocess.run(
            [str(PROGRAM), "-H", f"unix://{self.socket}", *arguments],
            input=b"" if data is None else data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            timeout=120,
            check=False,
        )
        output = os.fsdecode(done.stdout)
        if done.returncode != status:
            log = self.log.read_text()[-3000:]
            raise AssertionError(f"{arguments} ended with {done.returncode}\n{output}\n{log}")
        return output


@contextlib.contextmanager
def engine(tables: str) -> Iterator[Engine]:
    """Give a daemon that is running, with a small image ``box``."""
    made = Engine(tables)
    try:
        made.start()
        made("import", "-c", 'CMD ["sh"]', "-", "box", data=image())
        yield made
    finally:
        made.close()


def image() -> bytes:
    """Return a root filesystem with a shell in it, as an archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "cat", "echo", "dd", "sleep", "rm"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return data.getvalue()
