"""Debian's containerd, by its ``ctr``, with pannier-runtime in runc's place."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.linux.cgroupfs import cgroup_mounts, remove_group
from support.bundles import PROGRAM, make_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEADLINE = 60
_CONF = """
version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{0}/sock"
[ttrpc]
address = "{0}/sock.ttrpc"
"""


@dataclass
class Containerd:
    """A containerd with folders, a control group and a network namespace of its own."""

    folder: Path

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ctr to its end, whatever that is."""
        command = ["ctr", "--address", f"{self.folder}/sock", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_DEADLINE, check=False
        )

    def run(self, *words: str, id: str) -> subprocess.CompletedProcess[str]:
        """Run a container on the root; *words* are options, ``--``, and its command."""
        at = words.index("--")
        usual = ("--runc-binary", str(PROGRAM), "--runc-root", f"{self.folder}/runtime",
                 "--cgroup", f"/{self.folder.name}/{id}", "--rootfs")  # fmt: skip
        root = f"{self.folder}/rootfs"
        return self.call("run", *usual, *words[:at], root, id, *words[at + 1 :])


@pytest.fixture(scope="module")
def place() -> Iterator[Containerd]:
    """Start a containerd, of which nothing is left afterwards."""
    if not (shutil.which("containerd") and shutil.which("ctr")):
        pytest.skip("needs containerd: apt-get install --no-install-recommends containerd")
    folder = Path(tempfile.mkdtemp(prefix="pannier-cd-", dir="/tmp"))
    make_root(folder / "rootfs")
    (folder / "config.toml").write_text(_CONF.format(folder))
    command = ["unshare", "--net", "containerd", "--config", f"{folder}/config.toml"]
    with subprocess.Popen(
        [*command, "--log-level", "info"], stderr=subprocess.PIPE, text=True
    ) as daemon:
        try:
            assert daemon.stderr is not None
            assert any("successfully booted" in line for line in daemon.stderr)
            place = Containerd(folder)
            yield place
            for id in place.call("tasks", "list", "--quiet").stdout.split():
                place.call("tasks", "delete", "--force", id)
        finally:
            daemon.terminate()
            daemon.communicate()
            for mount in cgroup_mounts():
                remove_group(mount.path / folder.name, 5.0)
            shutil.rmtree(folder, ignore_errors=True)
    assert not folder.exists()


def test_a_container_runs_to_its_end(place: Containerd) -> None:
    """With its output and its status, its limit, and its root read-only."""
    script = "echo out; echo err >&2; touch /x; cat /sys/fs/cgroup/pids/pids.max; exit 3"
    done = place.run("--rm", "--read-only", "--", "/bin/sh", "-c", script, id="one")
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "out")
    assert done.stderr.startswith("err\n")
    assert "touch: /x: Read-only file system" in done.stderr
    missing = place.run("--rm", "--", "nosuch", id="two")
    assert missing.returncode == 1
    assert 'exec: "nosuch": executable file not found in $PATH' in missing.stderr


def test_a_container_lives_its_life(place: Containerd) -> None:
    """Detached, listed, executed in, paused, resumed, killed, deleted."""
    assert place.run("--detach", "--", "/bin/sleep", "1000", id="life").returncode == 0

    def status() -> str:
        rows = [row.split() for row in place.call("tasks", "list").stdout.splitlines()]
        return next(row[2] for row in rows if row[0] == "life")

    assert status() == "RUNNING"
    words = ("--exec-id", "added", "life", "/bin/sh", "-c", "echo added; exit 5")
    added = place.call("tasks", "exec", *words)
    assert (added.returncode, added.stdout) == (5, "added\n")
    assert place.call("tasks", "pause", "life").returncode == 0
    assert status() == "PAUSED"
    assert place.call("tasks", "resume", "life").returncode == 0
    assert status() == "RUNNING"
    attach = ["ctr", "--address", f"{place.folder}/sock", "tasks", "attach", "life"]
    with subprocess.Popen(attach, stdin=subprocess.DEVNULL) as attached:
        assert place.call("tasks", "kill", "--signal", "KILL", "life").returncode == 0
        assert attached.wait(_DEADLINE) == 137
    # Who is attached deletes the task when it has ended.
    assert place.call("tasks", "list", "--quiet").stdout == ""
    assert place.call("containers", "delete", "life").returncode == 0
