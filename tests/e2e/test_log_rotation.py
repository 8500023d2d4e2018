"""Logs that are rotated while they are followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.daemon import Daemon

pytestmark = pytest.mark.root

_LINES = 20_000


def test_followed_across_rotations(daemon: Daemon) -> None:
    """Whoever follows from the start misses no line, though older files are gone by the end."""
    script = f"sleep 0.5; i=0; while [ $i -lt {_LINES} ]; do echo line $i; i=$((i+1)); done"
    daemon.cli(
        "run", "-d", "--name", "talks", "--network", "none", "--log-opt", "max-size=50k",
        "--log-opt", "max-file=4", "busybox", "sh", "-c", script,
    )  # fmt: skip
    followed = daemon.cli("logs", "--follow", "talks").stdout.splitlines()
    assert followed == [f"line {number}" for number in range(_LINES)]
    kept = daemon.cli("logs", "talks").stdout.splitlines()
    assert 0 < len(kept) < _LINES
    assert kept == followed[-len(kept) :]
    folder = daemon.folder / "root/containers"
    files = list(folder.glob("*/output.log*"))
    assert 2 <= len(files) <= 4
    assert all(file.stat().st_size <= 50 << 10 for file in files)


def test_the_driver_none(daemon: Daemon) -> None:
    """There is nothing to read, which is said; attached clients see the output all the same."""
    result = daemon.cli(
        "run", "--name", "silent", "--network", "none", "--log-driver", "none", "busybox", "echo",
        "seen",
    )  # fmt: skip
    assert result.stdout == "seen\n"
    answer = daemon.cli("logs", "silent", check=False)
    assert answer.returncode == 1
    assert "configured logging driver does not support reading" in answer.stderr
