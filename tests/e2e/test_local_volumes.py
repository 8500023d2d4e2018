"""The local volume driver's options, with real mounts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.linux import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

pytestmark = pytest.mark.root


@pytest.fixture
def memory(daemon: Daemon) -> Iterator[str]:
    """Return a volume in memory."""
    daemon.cli(
        "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs",
        "--opt", "o=size=4m,uid=1000,nosuid", "memory",
    )  # fmt: skip
    yield "memory"
    found = daemon.cli("ps", "-aq").stdout.split()
    if found:
        daemon.cli("rm", "-f", *found)
    daemon.cli("volume", "rm", "memory")


def _run(daemon: Daemon, *arguments: str, check: bool = True) -> str:
    result = daemon.cli("run", "--network", "none", *arguments, check=check)
    return result.stdout if check else result.stderr


def _mounts(daemon: Daemon) -> list[str]:
    text = Path("/proc/self/mountinfo").read_text()
    return [line for line in text.splitlines() if f"{daemon.folder}/root/volumes" in line]


def test_a_volume_in_memory_is_shared_and_goes(daemon: Daemon, memory: str) -> None:
    """Containers that run at once see the same files; with the last of them they go."""
    _run(daemon, "-d", "--name", "m1", "-v", f"{memory}:/m", "busybox", "sleep", "1000")
    daemon.cli("exec", "m1", "sh", "-c", "echo kept > /m/file")
    look = "cat /m/file; stat -c %u /m; df -k /m | tail -1 | awk '{print $2}'"
    found = _run(daemon, "--rm", "-v", f"{memory}:/m:ro", "busybox", "sh", "-c", look)
    assert found == "kept\n1000\n4096\n"
    [mount] = _mounts(daemon)
    assert "nosuid" in mount
    daemon.cli("rm", "-f", "m1")
    assert _mounts(daemon) == []
    assert _run(daemon, "--rm", "-v", f"{memory}:/m", "busybox", "ls", "/m") == ""


def test_a_volume_in_memory_survives_the_daemon(own_daemon: Daemon) -> None:
    """It stays while its container runs, and goes with it under the next daemon."""
    daemon = own_daemon
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs")
    daemon.cli("volume", "create", *options, "memory")
    _run(daemon, "-d", "--name", "m1", "-v", "memory:/m", "busybox", "sleep", "1000")
    daemon.cli("exec", "m1", "sh", "-c", "echo kept > /m/file")
    daemon.kill()
    daemon.start()
    assert _run(daemon, "--rm", "-v", "memory:/m", "busybox", "cat", "/m/file") == "kept\n"
    assert len(_mounts(daemon)) == 1
    daemon.cli("rm", "-f", "m1")
    assert _mounts(daemon) == []


def test_a_container_that_ends_while_no_daemon_runs(own_daemon: Daemon) -> None:
    """The next daemon takes its volume's mount away."""
    daemon = own_daemon
    daemon.cli("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "memory")
    _run(daemon, "-d", "--name", "m1", "-v", "memory:/m", "busybox", "sleep", "1000")
    pid = int(daemon.cli("inspect", "--format", "{{.State.Pid}}", "m1").stdout)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    daemon.start()
    deadline = time.monotonic() + 60
    while _mounts(daemon):
        assert time.monotonic() < deadline, "it stays mounted"
        time.sleep(0.05)  # an unmount tells nobody


def test_what_cannot_be_mounted_is_told(daemon: Daemon) -> None:
    """The start fails with the mount's words, and leaves nothing mounted."""
    for name, kind, device in (
        ("odd", "no-such-filesystem", "x"),
        ("gone", "ext4", "/nonexistent"),
        ("far", "nfs", ":/export"),
    ):
        daemon.cli("volume", "create", "--opt", f"type={kind}", "--opt", f"device={device}", name)
        text = _run(daemon, "--rm", "-v", f"{name}:/m", "busybox", "true", check=False)
        assert "failed to mount local volume" in text
        assert _mounts(daemon) == []
        daemon.cli("volume", "rm", name)


def test_bound_folders(daemon: Daemon, tmp_path: Path) -> None:
    """A bind stands for its device, which outlives the volume; read-only holds for everybody."""
    (tmp_path / "file").write_text("here\n")
    bind = ("--opt", "type=none", "--opt", f"device={tmp_path}")
    daemon.cli("volume", "create", *bind, "--opt", "o=bind", "bound")
    daemon.cli("volume", "create", *bind, "--opt", "o=bind,ro", "fixed")
    assert _run(daemon, "--rm", "-v", "bound:/m", "busybox", "cat", "/m/file") == "here\n"
    text = _run(daemon, "--rm", "-v", "fixed:/m", "busybox", "touch", "/m/x", check=False)
    assert "Read-only" in text
    daemon.cli("volume", "rm", "bound", "fixed")
    assert (tmp_path / "file").read_text() == "here\n"
    missing = ("--opt", "type=none", "--opt", f"device={tmp_path}/none", "--opt", "o=bind")
    daemon.cli("volume", "create", *missing, "later")
    text = _run(daemon, "--rm", "-v", "later:/m", "busybox", "true", check=False)
    assert "no such file or directory" in text
    (tmp_path / "none").mkdir()
    _run(daemon, "--rm", "-v", "later:/m", "busybox", "touch", "/m/made")
    assert (tmp_path / "none/made").exists()
    daemon.cli("volume", "rm", "later")


def test_read_only_reaches_the_mounts_below(daemon: Daemon, tmp_path: Path) -> None:
    """A disk that the host has mounted in a bound folder cannot be written to, unless asked for."""
    below = tmp_path / "below"
    below.mkdir()
    mounts.mount("tmpfs", below, "tmpfs")
    try:
        write = ("busybox", "touch", "/s/below/file")
        for flags in (
            ("-v", f"{tmp_path}:/s:ro"),
            ("--mount", f"type=bind,src={tmp_path},dst=/s,readonly"),
        ):
            assert "Read-only" in _run(daemon, "--rm", *flags, *write, check=False)
            assert not (below / "file").exists()
        writable = f"type=bind,src={tmp_path},dst=/s,readonly,bind-recursive=writable"
        _run(daemon, "--rm", "--mount", writable, *write)
        assert (below / "file").exists()
    finally:
        mounts.umount(below)


def test_copies_into_what_is_read_only(daemon: Daemon, tmp_path: Path) -> None:
    """They are refused in Docker's words, by any way there, whether the container runs or not."""
    file = tmp_path / "file"
    file.touch()
    mounts_of = ("--tmpfs", "/link", "-v", f"{tmp_path}:/ro:ro", "-v", "written:/rw")
    words = ("busybox", "sh", "-c", "ln -s /ro /link/to; mkfifo /rw/p; : > /rw/p; sleep 1000")
    daemon.cli("run", "-d", "--name", "box", "--read-only", *mounts_of, *words)
    daemon.cli("exec", "box", "sh", "-c", "until test -p /rw/p; do :; done; : < /rw/p")
    for running in (True, False):
        for client in daemon.clients:
            for place, said in (
                ("/ro/", "mounted volume is marked read-only"),
                ("/", "container rootfs is marked read-only"),
                *([("/link/to/", "mounted volume is marked read-only")] if running else []),
            ):
                done = client("cp", str(file), f"box:{place}", check=False)
                assert said in done.stderr, place
            client("cp", str(file), "box:/rw/")
        if running:
            daemon.cli("kill", "box")
    daemon.cli("rm", "box")
    daemon.cli("volume", "rm", "written")


def test_a_volume_on_a_file(daemon: Daemon, tmp_path: Path) -> None:
    """The start is refused in words without the interpreter's own, and says what to look at."""
    for flags in (("-v", f"{tmp_path}:/etc/passwd"), ("-v", "folder:/etc/passwd")):
        said = _run(daemon, "--rm", *flags, "busybox", "true", check=False)
        assert "not a directory: /etc/passwd\n" in said
        assert "mount a directory onto a file" in said
        assert "Errno" not in said
    daemon.cli("volume", "rm", "folder")
