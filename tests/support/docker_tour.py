"""A tour of the docker command: what is run, and how its output is made comparable.

The same steps run against Pannier and, to record what is expected, against a real dockerd::

    cd tests && python -m support.docker_tour > e2e/golden/docker_tour_20_10.json
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.dockerd import running_dockerd
from support.images import busybox_archive
from support.registries import registry_beside

__all__ = ["STEPS", "Answer", "Step", "answers", "normal"]

_TIMEOUT = 60.0
_PORT = 5001
"""Of the registry on the daemon's loopback; its user is jo, who has a password."""


@dataclass(frozen=True)
class Step:
    """One command.

    :param line: its arguments, as a shell would take them apart; DIR is a folder of the tour.
    :param data: its standard input.
    :param any_order: its lines come in no particular order.
    """

    line: str
    data: str | None = None
    any_order: bool = False

    @property
    def arguments(self) -> list[str]:
        """Its arguments."""
        return shlex.split(self.line)


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said, normalised."""

    status: int
    out: str
    err: str


def _steps(text: str) -> list[Step]:
    found = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        command, arrow, data = line.strip().partition(" <<< ")
        order = command.removeprefix("~ ")
        found.append(
            Step(order, data.replace("\\n", "\n") if arrow else None, any_order=order != command)
        )
    return found


STEPS = _steps(Path(__file__).with_suffix(".txt").read_text())

_WORDS = (
    (re.compile(r"/tmp/p[kt]-\w+/(data|root)/"), "ROOT/"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12}\b"), "<short>"),
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:?\d\d| [+-]\d{4} \w+)?"),
        "<time>",
    ),
    (
        re.compile(
            r"\b(\d+|About an?|Less than an?) (second|minute|hour|day|week|month|year)s?( ago)?"
        ),
        "<ago>",
    ),
    (re.compile(r"\b\d+(\.\d+)?\s?([kMG]?i?B)\b"), "<size>"),
    (re.compile(r"round-trip.*"), "round-trip <times>"),
    (re.compile(r"\b172\.\d+\.\d+\.\d+\b"), "<address>"),
    (re.compile(r" +"), " "),
    (re.compile(r"(?m)^\d+ sleep"), "<pid> sleep"),
)


def normal(text: str, folder: Path, *, any_order: bool) -> str:
    """Return what a command said without what is of the moment: times, ids, sizes."""
    text = text.replace(str(folder), "DIR")
    for pattern, word in _WORDS:
        text = pattern.sub(word, text)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(sorted(lines) if any_order else lines)


_NO_CHMOD = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"},
    ],
}


def _files(folder: Path) -> None:
    (folder / "busybox.tar").write_bytes(busybox_archive())
    (folder / "f").write_text("copied\n")
    (folder / "env").write_text("A=1\n# a comment\nB\nC=x y\n")
    (folder / "labels").write_text("one=1\n# a comment\ntwo\n")
    (folder / "seccomp.json").write_text(json.dumps(_NO_CHMOD))
    subprocess.run(["tar", "-C", str(folder), "-cf", str(folder / "root.tar"), "f"], check=True)
    for name, text in {
        "context": "FROM busybox AS first\nARG WHAT=nothing\nRUN echo $WHAT > /said\n"
        'FROM first\nCOPY f /f\nENV A=1\nWORKDIR /w\nCMD ["sh", "-c", "pwd; cat /f /said"]\n',
        "broken": "FROM busybox\nNONSENSE\n",
        "failing": "FROM busybox\nRUN exit 4\n",
    }.items():
        (folder / name).mkdir()
        (folder / name / "Dockerfile").write_text(text)
        (folder / name / "f").write_text("in the context\n")


def answers(host: str, pid: int) -> dict[str, Answer]:
    """Run every step, in order; return the answers by their line.

    :param host: the engine's address.
    :param pid: its process.
    """
    with tempfile.TemporaryDirectory(prefix="tour-") as made, contextlib.ExitStack() as stack:
        folder = Path(made)
        _files(folder)
        stack.enter_context(registry_beside(pid, folder / "registry", _PORT, private=True))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": made,
            "DOCKER_HOST": host,
            "DOCKER_BUILDKIT": "0",
        }
        found = {}
        for number, step in enumerate(STEPS):
            done = subprocess.run(
                ["docker", *(part.replace("DIR", made) for part in step.arguments)],
                env=environment,
                input=step.data,
                stdin=subprocess.DEVNULL if step.data is None else None,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=_TIMEOUT,
                check=False,
                cwd=made,
            )
            out, err = (
                normal(text, folder, any_order=step.any_order)
                for text in (done.stdout, done.stderr)
            )
            found[f"{number:03} {step.line}"] = Answer(done.returncode, out, err)
        return found


if __name__ == "__main__":
    with running_dockerd() as daemon:
        recorded = {
            line: [answer.status, answer.out, answer.err]
            for line, answer in answers(daemon.host, daemon.pid).items()
        }
    sys.stdout.write(json.dumps(recorded, indent=1) + "\n")
