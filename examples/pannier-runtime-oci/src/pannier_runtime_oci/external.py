"""Calling the external runtime, from a container's monitor."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.linux.process import die_with_parent
from pannier.runtimes.mechanism import Failure

from pannier_runtime_oci.groups import enter

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CONSOLE", "Runtime"]

CONSOLE = "console.sock"

_LOG = "runtime.log"
_PATIENCE = 50.0
_EXECUTING = re.compile(r"\bexec(:| user process)|chdir to cwd")
_NUMBERS = (
    (re.compile(r"executable file not found|no such file or directory"), errno.ENOENT),
    (re.compile(r"permission denied|is a directory"), errno.EACCES),
    (re.compile(r"exec format error"), errno.ENOEXEC),
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def failure(text: str) -> Failure:
    """Return the error for what the runtime has said; with execve's errno, where that failed."""
    if not _EXECUTING.search(text):
        return Failure(text)
    found = (number for pattern, number in _NUMBERS if pattern.search(text))
    return Failure(text, next(found, 0))


class Runtime:
    """The program and the container. The working directory is the bundle.

    Every call raises :class:`~pannier.runtimes.mechanism.Failure` with the program's own last word.
    """

    def __init__(self, program: str, id: str) -> None:
        self._program = program
        self._id = id

    def create(self, streams: Sequence[int]) -> int:
        """Create the container; return its first process's id.

        :param streams: stdin, stdout and stderr; none for a terminal, which :data:`CONSOLE` gets.
        """
        self._call(["create", "--bundle", ".", *_files("init", streams), self._id], streams)
        return _pid("init")

    def start(self) -> None:
        """Let it execute."""
        self._call(["start", self._id])

    def execute(self, process: str, streams: Sequence[int], procs: Sequence[int]) -> int:
        """Add a process, whose every ancestor enters the groups of *procs*; return its id.

        :param process: the specification's object, in JSON.
        """
        Path("process.json").write_text(process, encoding="utf-8")
        arguments = ["exec", "--process", "process.json", "--detach", *_files("exec", streams)]
        self._call([*arguments, self._id], streams, procs)
        return _pid("exec")

    def delete(self) -> None:
        """Forget it; what there still is of it is killed."""
        self._call(["delete", "--force", self._id])

    def _call(
        self, arguments: list[str], streams: Sequence[int] = (), procs: Sequence[int] = ()
    ) -> None:
        Path(_LOG).unlink(missing_ok=True)
        command = [self._program, "--root", "runtime", "--log", _LOG, "--log-format", "json"]
        null = subprocess.DEVNULL
        stdin, stdout, stderr = streams or (null, null, null)

        def before() -> None:
            # A runtime that outlived its monitor could leave behind what nobody knows.
            die_with_parent()
            enter(procs)

        try:
            done = subprocess.run(
                [*command, *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                # Of the daemon's variables LISTEN_FDS and others would mean something to it.
                env={"PATH": os.environ.get("PATH", _PATH)},
                timeout=_PATIENCE,
                check=False,
                preexec_fn=before,  # this process has one thread
            )
        except subprocess.SubprocessError as error:
            raise Failure(f"{self._program} {arguments[0]}: {error}") from error
        except OSError as error:
            raise Failure(f"cannot execute {self._program}: {error.strerror}") from error
        if done.returncode:
            raise failure(_complaint() or _sudden_end(self._program, done.returncode, procs))


def _sudden_end(program: str, status: int, procs: Sequence[int]) -> str:
    text = f"{program} ended with {status} and without a word"
    return f"{text}: the container's limits, which hold for it, may be too low" if procs else text


def _files(name: str, streams: Sequence[int]) -> list[str]:
    console = [] if streams else ["--console-socket", CONSOLE]
    return [*console, "--pid-file", f"{name}.pid"]


def _pid(name: str) -> int:
    return int(Path(f"{name}.pid").read_text(encoding="ascii"))


def _complaint() -> str:
    """Return the last error of the runtime's log."""
    try:
        lines = Path(_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in {"error", "fatal"}:
            return str(entry["msg"])
    return ""
