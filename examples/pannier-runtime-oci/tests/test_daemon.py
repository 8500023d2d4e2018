"""Containers of a real daemon, made by runc: what users do, and what they survive."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci_engine import Engine

_PATIENCE = 60.0
_WAITS = 'echo up; trap "echo bye; exit 7" TERM; while :; do sleep 0.05; done'


class Box:
    """Runs containers on one root with ``--runtime runc``."""

    def __init__(self, engine: Engine, rootfs: Path) -> None:
        self.engine = engine
        self._rootfs = str(rootfs)

    def words(self, *options: str, command: tuple[str, ...]) -> list[str]:
        """Return the words behind ``pannier run``."""
        network = () if "--network" in options else ("--network", "none")
        return ["--runtime", "runc", *network, *options, "--rootfs", self._rootfs, *command]

    def run(
        self, script: str, *options: str, data: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in the foreground."""
        words = self.words("--rm", *options, command=("sh", "-c", script))
        return self.engine.run("run", *words, data=data)

    def begin(self, script: str, *options: str) -> str:
        """Run a script in the background, and wait until it has said ``up``; return the id."""
        words = self.words("-d", *options, command=("sh", "-c", script))
        id = self.engine.cli("run", *words).strip()
        wait_until(lambda: "up" in self.engine.cli("logs", id))
        return id


@pytest.fixture
def box(engine: Engine, rootfs: Path) -> Iterator[Box]:
    """Return the daemon with a root; its containers go after the test."""
    yield Box(engine, rootfs)
    if containers := engine.cli("ps", "-aq").split():
        engine.cli("rm", "-f", *containers)


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again: for what nobody tells."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.05)


def monitors(id: str) -> list[int]:
    """Return the processes whose working directory is a container's bundle."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cwd").readlink().name == id:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def terminal(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command on a terminal of 30 rows and 70 columns; give it and our end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (30, 70))
    try:
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd="/"
        ) as process:
            os.close(theirs)
            try:
                yield process, ours
            finally:
                process.kill()
    finally:
        os.close(ours)


def read_until(descriptor: int, text: bytes) -> bytes:
    """Read from a terminal until *text* has come."""
    got = b""
    while text not in got:
        got += os.read(descriptor, 4096)
    return got


def test_the_driver_is_listed(engine: Engine) -> None:
    """``pannier drivers`` has it, usable, with its distribution; the built-in one stays chosen."""
    rows = [line.split() for line in engine.cli("drivers").splitlines()]
    (row,) = [row for row in rows if row[:2] == ["runtime", "runc"]]
    assert "pannier-runtime-oci" in row
    assert "runc" in engine.cli("info", "--format", "{{range $k, $v := .Runtimes}}{{$k}} {{end}}")


def test_run(box: Box) -> None:
    """Both streams and the exit status arrive; what was read from stdin, too."""
    done = box.run("read word; echo out $word; echo err >&2; exit 42", "-i", data=b"in\n")
    assert (done.returncode, done.stdout, done.stderr) == (42, "out in\n", "err\n")


def test_runc_is_what_makes_it(box: Box) -> None:
    """Inspect names the runtime, and runc knows the container while it runs."""
    id = box.begin(_WAITS)
    assert box.engine.inspect(id)["HostConfig"]["Runtime"] == "runc"
    bundle = box.engine.folder / "state/runtime/runc/containers" / id
    state = bundle / "runtime" / id / "state.json"
    assert state.exists()
    assert box.engine.inspect(id)["State"]["Pid"] > 0
    plain = box.run("true", "--runtime", "native")
    assert plain.returncode == 0, plain.stderr


def test_a_program_that_is_not_there(box: Box) -> None:
    """The status is the shell's 127, 126 for what cannot be executed; nothing is left running."""
    for program, status in (("nonsense", 127), ("/etc/passwd", 126)):
        done = box.engine.run("run", *box.words("--rm", command=(program,)))
        assert done.returncode == status, done.stderr
        assert program in done.stderr


def test_what_is_not_offered_is_refused(box: Box) -> None:
    """``--init`` is not passed over in silence, and the error says what to do."""
    done = box.run("true", "--init")
    assert done.returncode != 0
    assert "has no init" in done.stderr
    assert "leave --init out" in done.stderr


def test_exec(box: Box) -> None:
    """A further process is inside, with its own status, streams and user."""
    id = box.begin(_WAITS)
    script = "read word; echo $word $(id -u) $(readlink /proc/self/ns/pid)"
    out = box.engine.cli("exec", "-i", "-u", "1000", id, "sh", "-c", script, data=b"hello\n")
    pid = box.engine.inspect(id)["State"]["Pid"]
    assert out.split() == ["hello", "1000", str(Path(f"/proc/{pid}/ns/pid").readlink())]
    assert box.engine.run("exec", id, "sh", "-c", "exit 9").returncode == 9
    assert box.engine.run("exec", id, "nonsense").returncode == 127


def test_a_terminal(box: Box) -> None:
    """``-it`` gives the container a terminal of the client's size, and ends with its status."""
    command = box.engine.command("run", *box.words("-it", "--rm", command=("sh",)))
    with terminal(command) as (process, screen):
        os.write(screen, b"test -t 1 && stty size; exit 3\n")
        assert b"30 70" in read_until(screen, b"30 70")
        assert process.wait(_PATIENCE) == 3


def attached(box: Box, name: str) -> subprocess.Popen[bytes]:
    """Attach to a container whose stdin stays open: a client is gone with its input."""
    return subprocess.Popen(
        box.engine.command("attach", name),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
    )


def ask(client: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Send input; return the line that comes back."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(words)
    client.stdin.flush()
    return client.stdout.readline()


def test_attach(box: Box) -> None:
    """A client that comes later sends input and gets output, up to the end."""
    id = box.begin("echo up; read word; echo got $word; read word; exit 5", "-i")
    with attached(box, id) as client:
        assert ask(client, b"it\n") == b"got it\n"
        out, _ = client.communicate(b"on\n", _PATIENCE)
    assert (client.returncode, out) == (5, b"")


def test_stop_and_kill(box: Box) -> None:
    """A stop is the signal and what its handler makes of it; a kill is 137; both are in inspect."""
    id = box.begin(_WAITS)
    box.engine.cli("stop", id)
    state = box.engine.inspect(id)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)
    assert box.engine.cli("logs", id) == "up\nbye\n"
    box.engine.cli("start", id)
    box.engine.cli("kill", id)
    assert box.engine.cli("wait", id).strip() == "137"


def test_pause(box: Box) -> None:
    """A paused container stands still, as its control group is frozen."""
    id = box.begin(_WAITS)
    box.engine.cli("pause", id)
    assert box.engine.inspect(id)["State"]["Status"] == "paused"
    box.engine.cli("unpause", id)
    box.engine.cli("stop", id)
    assert box.engine.inspect(id)["State"]["ExitCode"] == 7


def test_limits_hold_and_are_seen(box: Box) -> None:
    """First and added processes are in the engine's control groups, which the container is shown.

    runc's own group of the container is no way around them.
    """
    id = box.begin(_WAITS, "--memory", "64m", "--pids-limit", "50")
    script = (
        "for file in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do "
        "test -e $file && cat $file; done; cat /proc/self/cgroup"
    )
    limit, *groups = box.engine.cli("exec", id, "sh", "-c", script).split()
    assert limit == str(64 << 20)
    assert {line.split(":")[-1] for line in groups} == {"/"}
    assert "up" in box.engine.cli("top", id)
    script = "for group in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $group/new; done"
    made = box.engine.run("exec", id, "sh", "-c", script)
    assert made.stderr.count("Read-only") == len(made.stderr.splitlines()) > 0


def test_a_bridge(box: Box) -> None:
    """The network drivers' links are in the namespace that runc made; names resolve."""
    done = box.run("ls /sys/class/net; cat /etc/hosts", "--network", "bridge")
    assert done.stdout.split()[:2] == ["eth0", "lo"]
    assert "172." in done.stdout or "10." in done.stdout


def test_volumes(box: Box, tmp_path: Path) -> None:
    """Binds are the host's folders, of which read-only ones cannot be written to; volumes stay."""
    (tmp_path / "file").write_text("content\n")
    script = "cat /in/file; touch /in/new || echo refused; touch /out/new"
    words = ("-v", f"{tmp_path}:/in:ro", "-v", "kept:/out")
    done = box.run(script, *words)
    assert done.stdout.split() == ["content", "refused"]
    assert box.run("ls /out", "-v", "kept:/out").stdout == "new\n"
    box.engine.cli("volume", "rm", "kept")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that is a shared mount of its own."""
    folder = tmp_path / "shared"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", folder], check=True)
    try:
        subprocess.run(["mount", "--make-shared", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "--recursive", folder], check=True)


@pytest.mark.parametrize("mode", ["slave", "rslave"])
def test_what_the_host_mounts_later_is_seen_by_slaves(box: Box, shared: Path, mode: str) -> None:
    """A bind of that kind has it, and a private one beside it has not."""
    inner = shared / "inner"
    inner.mkdir()
    id = box.begin(_WAITS, "-v", f"{shared}:/slave:{mode}", "-v", f"{shared}:/apart")
    subprocess.run(["mount", "-t", "tmpfs", "later", inner], check=True)
    (inner / "file").touch()
    assert box.engine.cli("exec", id, "ls", "/slave/inner") == "file\n"
    assert box.engine.cli("exec", id, "ls", "/apart/inner") == ""


def test_what_spreads_to_the_host_is_refused(box: Box, shared: Path) -> None:
    """By name; the hint is one that helps."""
    done = box.run("true", "-v", f"{shared}:/x:shared")
    assert done.returncode == 125
    assert "does not offer the propagation shared of /x" in done.stderr
    assert "use rslave" in done.stderr
    assert box.run("true", "-v", f"{shared}:/x:rslave").returncode == 0


def test_a_restart_of_the_daemon_keeps_containers(box: Box) -> None:
    """They run on with the same process; logs, attach, exec and stop work as before."""
    script = "echo up; read word; echo got $word; read word; exit 6"
    id = box.begin(script, "-i", "--name", "kept")
    before = box.engine.inspect(id)["State"]
    box.engine.stop()
    box.engine.start()
    after = box.engine.inspect(id)["State"]
    assert (after["Status"], after["Pid"]) == ("running", before["Pid"])
    assert box.engine.cli("exec", "kept", "sh", "-c", "echo hello") == "hello\n"
    with attached(box, "kept") as client:
        assert ask(client, b"one\n") == b"got one\n"
        out, _ = client.communicate(b"two\n", _PATIENCE)
    assert (client.returncode, out) == (6, b"")
    assert box.engine.cli("logs", "kept") == "up\ngot one\n"


def test_a_killed_daemon_takes_nothing_with_it(box: Box) -> None:
    """Containers run on; what one writes meanwhile is logged, and its status is collected."""
    script = (
        "echo up; while ! test -e /shared/go; do sleep 0.05; done; "
        "for i in 1 2 3; do echo line $i; done; head -c 3000000 /dev/zero; "
        "touch /shared/done; exit 11"
    )
    shared = box.engine.folder / "shared"
    shared.mkdir()
    ends = box.begin(script, "-v", f"{shared}:/shared")
    stays = box.begin(_WAITS)
    pid = box.engine.inspect(stays)["State"]["Pid"]
    box.engine.kill()
    (shared / "go").touch()
    wait_until((shared / "done").exists)
    wait_until(lambda: not monitors(ends))
    box.engine.start()
    state = box.engine.inspect(ends)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 11)
    assert box.engine.cli("logs", ends) == "up\nline 1\nline 2\nline 3\n" + "\0" * 3000000
    state = box.engine.inspect(stays)["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    box.engine.cli("stop", stays)
    assert box.engine.inspect(stays)["State"]["ExitCode"] == 7


def test_a_killed_monitor_is_told(box: Box) -> None:
    """Its container ends with it, and is known to be lost, rather than believed to run."""
    id = box.begin(_WAITS)
    pid = box.engine.inspect(id)["State"]["Pid"]
    (monitor,) = monitors(id)
    os.kill(monitor, signal.SIGKILL)
    assert box.engine.cli("wait", id).strip() == "137"
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    box.engine.cli("start", id)
    wait_until(lambda: box.engine.cli("logs", id).count("up") == 2)
