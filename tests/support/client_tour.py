"""The same command lines for docker's client and ours, and how answers are made comparable."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.docker_tour import Answer, normal

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from support.daemon import Daemon

__all__ = ["LINES", "both", "prepare"]

LINES = Path(__file__).with_suffix(".txt").read_text().splitlines()
"""Arguments, as a shell would take them apart. None of them changes anything."""

_PROGRAMS = ("docker", str(Path(sys.executable).parent / "pannier"))
_DROPPED = (
    # Who says it, and where to read on: each client has its own way.
    r"(?m)^(docker: )?(Error response from daemon: |Error: )",
    r"(?m)^docker: ",
    r"(?m)^hint: .*\n?",
    r"(?m)^(Run|See) 'docker .*--help' for more information\n?",
    r"(?m)^Usage: .*\n?",
    r"(?m)^exit status 1\n?",
)


def _said(text: str) -> str:
    text = text.replace("pannier", "docker")
    for pattern in _DROPPED:
        text = re.sub(pattern, "", text)
    return text.strip()


def _answer(program: str, line: str, daemon: Daemon) -> Answer:
    done = subprocess.run(
        [program, *shlex.split(line)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(daemon.folder),
            "DOCKER_HOST": daemon.host,
            "DOCKER_BUILDKIT": "0",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=daemon.folder,
    )
    # Names of one image come in no particular order, of docker's.
    any_order = line.startswith("images")
    out, err = (
        normal(text, daemon.folder, any_order=any_order)
        for text in (done.stdout, _said(done.stderr))
    )
    return Answer(done.returncode, out, err)


def both(line: str, daemon: Daemon, pool: ThreadPoolExecutor) -> tuple[Answer, Answer]:
    """Return docker's answer to a command line, and ours, of the same moment."""
    theirs, ours = pool.map(lambda program: _answer(program, line, daemon), _PROGRAMS)
    return theirs, ours


def prepare(daemon: Daemon) -> None:
    """Make what the lines ask about: containers in every state, a network, volumes, images."""
    run = daemon.cli
    run("run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "-p", "9000-9002:9000-9002/udp",
        "-l", "a=b", "-l", "c=d", "-v", "vol1:/v", "-v", f"{daemon.folder}:/t",
        "--health-cmd", "true", "--health-interval", "1h",
        "busybox", "sh", "-c", "echo 1; echo 2 >&2; sleep 1000")  # fmt: skip
    run("create", "--name", "made", "busybox", "true")
    run("run", "--name", "done", "busybox", "sh", "-c", "exit 3", check=False)
    run("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
    run("pause", "paused")
    run("network", "create", "--label", "x=y", "--subnet", "10.99.0.0/16", "nett")
    run("tag", "busybox", "a/b:c")
    run("volume", "create", "--label", "q=r", "vol2")
    run("exec", "web", "sh", "-c", "touch /added; rm /etc/group")
