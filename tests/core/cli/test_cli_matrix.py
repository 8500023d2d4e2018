"""``pannier matrix``: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_command(cli: Callable[..., Any], tmp_path: Path) -> None:
    """It prints the table, and its status says whether all is well."""
    words = ("matrix", "--kernels", "host", "--output", str(tmp_path))
    good = cli(*words, "--", "true")
    assert good.status == 0
    assert good.out.splitlines() == ["DRIVER       host", "exit status  0"]
    bad = cli(*words, "--format", "json", "--", "sh", "-c", "exit 5")
    assert bad.status == 1
    assert json.loads(bad.out)["Status"] == 5


def test_json_stands_alone(tmp_path: Path) -> None:
    """What the command prints goes elsewhere, and is there."""
    options = ("--kernels", "host", "--output", str(tmp_path), "--format", "json")
    command = (sys.executable, "-m", "pannier.cli", "matrix", *options, "--")
    done = subprocess.run(
        [*command, "sh", "-c", "echo {1}; echo '{' >&2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["Status"] == 0
    assert done.stderr.endswith("\n{1}\n{\n")


@pytest.mark.parametrize("way", ["signal", "time-out"])
def test_what_runs_ends_with_it(tmp_path: Path, way: str) -> None:
    """Whoever ends the command leaves no machine behind, and nothing that the command began."""
    os.mkfifo(tmp_path / "pid")
    options = ["--kernels", "host", "--output", str(tmp_path / "out")]
    if way == "time-out":
        options += ["--timeout", "1"]
    command = ("sh", "-c", f"sleep 600 & echo $! > {tmp_path / 'pid'}; wait")
    matrix = _matrix(*options, "--", *command)
    # The process is held, so that no other can have its number.
    running = os.pidfd_open(int((tmp_path / "pid").read_text()))
    try:
        if way == "signal":
            matrix.terminate()
        assert matrix.wait(60) == (128 + signal.SIGTERM if way == "signal" else 1)
        assert select.select([running], [], [], 60)[0]
    finally:
        os.close(running)


def test_who_ignores_hang_ups_is_not_ended_by_one(tmp_path: Path) -> None:
    """As under ``nohup``."""
    os.mkfifo(tmp_path / "on")
    options = ("--kernels", "host", "--output", str(tmp_path / "out"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        matrix = _matrix(*options, "--", "sh", "-c", f"read on < {tmp_path / 'on'}")
    finally:
        signal.signal(signal.SIGHUP, before)
    with (tmp_path / "on").open("w") as on:  # opens when the command has come to read
        matrix.send_signal(signal.SIGHUP)
        on.write("on\n")
    assert matrix.wait(60) == 0


def _matrix(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pannier.cli", "matrix", *words])


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        ("2.4", "no kernel '2.4'; there are host, 6.1, 6.12"),
        ("6.1:v3", "v1, v2 or hybrid"),
        ("", "names none"),
    ],
)
def test_a_wrong_kernel_is_a_usage_error(cli: Callable[..., Any], kernels: str, said: str) -> None:
    """Said before anything is booted."""
    outcome = cli("matrix", "--kernels", kernels, "--", "true")
    assert outcome.status == 125
    assert said in outcome.err
