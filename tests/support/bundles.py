"""Bundles, and ``pannier-runtime`` run on them, for tests."""

from __future__ import annotations

import array
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pannier_oci.lifecycle import delete
from pannier_oci.records import Records
from support.native import BUSYBOX, make_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers import oci

PROGRAM = Path(sys.executable).parent / "pannier-runtime"
_DEADLINE = 60
_WITH_THIRD = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.argv[2], sys.argv[2:])
"""


def make_root(folder: Path) -> Path:
    """Make a root with busybox and nothing else."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    listing = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    for name in listing.stdout.split():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    return folder


@dataclass
class Bundle:
    """A bundle, and the command line with a state of its own.

    :param group: the control group of its containers' groups.
    """

    folder: Path
    state: Path
    group: str
    made: list[str] = field(default_factory=list)

    def spec(self, *args: str, **linux: Any) -> oci.Spec:
        """Return a configuration of usual contents; *linux* replaces fields of that part."""
        spec = make_spec(*args)
        spec["root"] = {"path": "rootfs"}
        cast("dict[str, Any]", spec["linux"]).update({"cgroupsPath": self.group, **linux})
        return spec

    def write(self, spec: oci.Spec) -> None:
        """Write the configuration."""
        (self.folder / "config.json").write_text(json.dumps(spec))

    def call(
        self, *words: str, options: Sequence[str] = (), third: int | None = None, **run: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is.

        :param third: a descriptor that it is to have as its 3.
        """
        before: list[str] = []
        if third is not None:
            before = [sys.executable, "-S", "-c", _WITH_THIRD, str(third)]
            run["pass_fds"] = (third,)
        if words[0] in {"create", "run"}:
            self.made.append(words[-1])
        return subprocess.run(
            [*before, PROGRAM, "--root", str(self.state), *options, *words],
            **{"stdin": subprocess.DEVNULL, "cwd": self.folder, **run},
            capture_output="stdout" not in run,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )

    def script(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a shell's script to its end; the container that it makes is called ``one``."""
        self.made.append("one")
        return subprocess.run(
            ["sh", "-c", text],
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )

    def do(self, *words: str, **run: Any) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.call(*words, **run)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return str(done.stdout)

    def refused(self, *words: str, **run: Any) -> str:
        """Run a command that must fail; return what it said, and see that nothing is left."""
        done = self.call(*words, **run)
        assert done.returncode == 1, f"{words}: {done.stdout}"
        return str(done.stderr)

    def create(self, id: str, spec: oci.Spec, *words: str, third: int | None = None) -> Output:
        """Create a container with its output in pipes of ours."""
        self.write(spec)
        output = Output()
        try:
            done = self.call(
                "create", *words, id, stdout=output.stdout, stderr=output.stderr, third=third
            )
        finally:
            output.handed_over()
        assert done.returncode == 0, output.read()
        return output

    def run(self, spec: oci.Spec, id: str = "once") -> str:
        """Run a container to its end; return what it printed."""
        self.write(spec)
        return self.do("run", id)

    def read_state(self, id: str) -> dict[str, Any]:
        """Return a container's state, without starting a program for it."""
        return Records(self.state).read(id).state()

    def clean(self) -> None:
        """Delete what there still is."""
        for id in dict.fromkeys(self.made):
            delete(Records(self.state), self.state, id, force=True)
        left = {path.name for path in self.state.glob("*")} - {".drivers"}
        assert left == set()


class Output:
    """A container's stdout and stderr, as its caller gets them."""

    def __init__(self) -> None:
        self._out, self.stdout = os.pipe()
        self._err, self.stderr = os.pipe()

    def handed_over(self) -> None:
        """Close our copies of the ends that the container has."""
        os.close(self.stdout)
        os.close(self.stderr)

    def line(self) -> str:
        """Return the next line of stdout."""
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(self._out, 1)
        return text.decode().rstrip("\n")

    def read(self) -> str:
        """Return both to their ends: the container has none of them open any more."""
        text = b""
        for descriptor in (self._out, self._err):
            with os.fdopen(descriptor, "rb") as file:
                text += file.read()
        return text.decode()


class Console:
    """A console socket, as an engine's monitor has one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(_DEADLINE)

    def master(self) -> int:
        """Return the terminal that was sent."""
        with self._listener, self._listener.accept()[0] as connection:
            descriptors = array.array("i")
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(data)
        assert len(descriptors) == 1
        return descriptors[0]


def read_terminal(master: int) -> str:
    """Return what a terminal shows until its last user has gone."""
    text = b""
    try:
        while piece := os.read(master, 4096):
            text += piece
    except OSError:  # EIO: nobody has the other end
        pass
    finally:
        os.close(master)
    return text.decode()
