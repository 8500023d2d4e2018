"""``pannier-runtime`` create, start, state, kill, delete: the specification's life cycle."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.errors import InvalidRequest
from support.bundles import PROGRAM, Console, read_terminal

if TYPE_CHECKING:
    from support.bundles import Bundle

pytestmark = pytest.mark.root


def await_end(pid: int) -> None:
    """Wait until a process that is not ours to reap has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(30_000)
    os.close(pidfd)


def test_a_container_goes_through_its_states(bundle: Bundle, tmp_path: Path) -> None:
    """Created until it is started, running until it has ended, stopped until it is deleted."""
    spec = bundle.spec("sh", "-c", "echo hello; exec cat /tmp/fifo")
    spec["annotations"] = {"org.example.key": "value"}
    os.mkfifo(bundle.folder / "rootfs/tmp/fifo")
    output = bundle.create("one", spec, "--pid-file", str(tmp_path / "pid"))
    state = json.loads(bundle.do("state", "one"))
    assert state["status"] == "created"
    assert state["ociVersion"] == spec["ociVersion"]
    assert state["id"] == "one"
    assert state["bundle"] == str(bundle.folder)
    assert state["annotations"] == {"org.example.key": "value"}
    assert state["pid"] == int((tmp_path / "pid").read_text())
    assert "not stopped: created" in bundle.refused("delete", "one")
    assert bundle.do("start", "one") == ""
    assert bundle.read_state("one")["status"] == "running"
    assert "that is running" in bundle.refused("start", "one")
    assert "not stopped: running" in bundle.refused("delete", "one")
    (bundle.folder / "rootfs/tmp/fifo").write_text("the end\n")
    await_end(state["pid"])
    assert output.read() == "hello\nthe end\n"
    stopped = bundle.read_state("one")
    assert (stopped["status"], stopped["pid"]) == ("stopped", 0)
    assert "container not running" in bundle.refused("kill", "one", "KILL")
    assert "that is stopped" in bundle.refused("start", "one")
    bundle.do("delete", "one")
    assert "does not exist" in bundle.refused("state", "one")
    assert "does not exist" in bundle.refused("delete", "one")
    bundle.do("delete", "--force", "one")


def test_an_id_is_used_once(bundle: Bundle) -> None:
    """A second container of an id is refused, and the first one lives on; so is an odd id."""
    bundle.create("one", bundle.spec("sleep", "100"))
    assert "container with id exists: one" in bundle.refused("create", "one")
    assert bundle.read_state("one")["status"] == "created"
    for odd in ("../one", ".", "a/b", ""):
        with pytest.raises(InvalidRequest, match="invalid container ID"):
            bundle.read_state(odd)


def test_kill_takes_names_and_numbers(bundle: Bundle) -> None:
    """A signal reaches the first process under any of its names; TERM is the usual one."""
    traps = 'for s in HUP USR1 USR2 TERM; do trap "echo $s" $s; done'
    script = f"{traps}; echo up; while :; do read x; done"
    output = bundle.create("one", bundle.spec("sh", "-c", f"{script} < /tmp/fifo"))
    os.mkfifo(bundle.folder / "rootfs/tmp/fifo")
    pid = bundle.read_state("one")["pid"]
    bundle.do("start", "one")
    with (bundle.folder / "rootfs/tmp/fifo").open("w"):
        assert output.line() == "up"
        for name, told in (("SIGHUP", "HUP"), ("usr1", "USR1"), ("12", "USR2"), (None, "TERM")):
            bundle.do("kill", "one", *[name] if name else [])
            assert output.line() == told
        assert "unknown signal 'NOSUCH'" in bundle.refused("kill", "one", "NOSUCH")
        bundle.do("kill", "one", "KILL")
    await_end(pid)
    assert bundle.read_state("one")["status"] == "stopped"


@pytest.mark.parametrize("name", ["9", "TERM", "INT"])
def test_a_created_container_can_be_killed(bundle: Bundle, name: str) -> None:
    """Its program has not run then, and does not run any more; pid 1 hears what ends others."""
    output = bundle.create("one", bundle.spec("echo", "hello"))
    pid = bundle.read_state("one")["pid"]
    bundle.do("kill", "one", name)
    await_end(pid)
    assert output.read() == ""


def test_a_container_without_a_process_is_created_and_not_started(bundle: Bundle) -> None:
    """The configuration may leave it out; start is an error, and has no effect then."""
    spec = bundle.spec()
    del cast("dict[str, Any]", spec)["process"]
    bundle.create("one", spec)
    assert "its configuration has no process" in bundle.refused("start", "one")
    assert bundle.read_state("one")["status"] == "created"
    bundle.do("delete", "--force", "one")


def test_run_returns_the_exit_status(bundle: Bundle) -> None:
    """Run waits, gives the program's status, and leaves nothing; 128+n for a signal."""
    bundle.write(bundle.spec("sh", "-c", "exit 7"))
    assert bundle.call("run", "one").returncode == 7
    spec = bundle.spec("sh", "-c", "kill -KILL $$; exit 5")
    spec["linux"]["namespaces"] = [
        item for item in spec["linux"]["namespaces"] if item["type"] != "pid"
    ]
    bundle.write(spec)
    assert bundle.call("run", "one").returncode == 128 + signal.SIGKILL
    assert json.loads(bundle.do("list", "--format", "json")) == []


def test_a_program_that_is_missing_fails_create(bundle: Bundle) -> None:
    """Create says so in the words that engines look for, on stderr and in a JSON log."""
    bundle.write(bundle.spec("nosuch"))
    log = bundle.folder / "log"
    options = ("--log", str(log), "--log-format", "json")
    said = bundle.refused("create", "one", options=options)
    assert 'exec: "nosuch": executable file not found in $PATH' in said
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert 'exec: "nosuch": executable file not found in $PATH' in entry["msg"]
    assert entry["time"].endswith("Z")
    assert bundle.do("list", "--quiet") == ""
    bundle.write(bundle.spec("/tmp"))
    assert 'exec: "/tmp": permission denied' in bundle.refused("create", "one")


def test_the_configuration_counts_as_it_was_at_create(bundle: Bundle) -> None:
    """What is written to config.json afterwards changes nothing."""
    output = bundle.create("one", bundle.spec("echo", "before"))
    bundle.write(bundle.spec("echo", "after"))
    pid = bundle.read_state("one")["pid"]
    bundle.do("start", "one")
    await_end(pid)
    assert output.read() == "before\n"


def test_a_terminal_goes_to_the_console_socket(bundle: Bundle, tmp_path: Path) -> None:
    """Its master is sent, of the size asked for; without a taker a terminal is refused."""
    spec = bundle.spec("sh", "-c", "test -t 0 && test -t 2 && stty size && echo on $(tty)")
    spec["process"]["terminal"] = True
    spec["process"]["consoleSize"] = {"height": 33, "width": 77}
    bundle.write(spec)
    assert "without setting console socket" in bundle.refused("create", "one")
    console = Console(tmp_path / "console")
    bundle.do("create", "--console-socket", str(console.path), "one")
    master = console.master()
    bundle.do("start", "one")
    assert read_terminal(master) == "33 77\r\non /dev/pts/0\r\n"
    spec["process"]["terminal"] = False
    bundle.write(spec)
    said = bundle.refused("create", "--console-socket", str(console.path), "two")
    assert "will not allocate a tty" in said


def test_descriptors_are_preserved_and_none_leaks(bundle: Bundle) -> None:
    """A process has 0 to 2 and those that were asked for, and nothing else of ours."""
    reading, writing = os.pipe()
    bundle.write(bundle.spec("sh", "-c", "echo through >&3; ls /proc/self/fd | tr '\\n' ' '"))
    done = bundle.do("run", "--preserve-fds", "1", "one", third=writing)
    os.close(writing)
    with os.fdopen(reading) as file:
        assert file.read() == "through\n"
    # The fourth is that of the folder, which ls opens itself.
    assert done.split() == ["0", "1", "2", "3", "4"]
    assert "descriptor 3 is not open" in bundle.refused("create", "--preserve-fds", "1", "two")


def test_pause_stops_and_resume_goes_on(bundle: Bundle) -> None:
    """A paused container says so, takes no further process, and ends when it is killed."""
    bundle.create("one", bundle.spec("sleep", "100"))
    bundle.do("start", "one")
    pid = bundle.read_state("one")["pid"]
    assert "not paused" in bundle.refused("resume", "one")
    bundle.do("pause", "one")
    assert bundle.read_state("one")["status"] == "paused"
    assert "paused container" in bundle.refused("exec", "one", "true")
    bundle.do("resume", "one")
    assert bundle.read_state("one")["status"] == "running"
    assert json.loads(bundle.do("ps", "--format", "json", "one")) == [pid]
    bundle.do("pause", "one")
    bundle.do("kill", "one", "KILL")
    assert bundle.read_state("one")["status"] == "stopped"


def test_kill_all_reaches_every_process(bundle: Bundle) -> None:
    """Also where the container shares the host's pid namespace."""
    spec = bundle.spec("sh", "-c", "sleep 100 & sleep 100 & wait")
    spec["linux"]["namespaces"] = [
        item for item in spec["linux"]["namespaces"] if item["type"] != "pid"
    ]
    output = bundle.create("one", spec)
    bundle.do("start", "one")
    bundle.do("kill", "--all", "one", "KILL")
    assert output.read() == ""
    assert json.loads(bundle.do("ps", "--format", "json", "one")) == []


def test_a_create_that_was_killed_can_be_deleted(bundle: Bundle, tmp_path: Path) -> None:
    """Nothing of it runs on; its id can be used again once it is deleted."""
    hook = tmp_path / "hook"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook.write_text(f"#!/bin/sh\necho $PPID $$ > {fifo}\nexec sleep 100\n")
    hook.chmod(0o755)
    spec = bundle.spec("echo", "hello")
    spec["hooks"] = {"createRuntime": [{"path": str(hook)}]}
    bundle.write(spec)
    victim = subprocess.Popen([PROGRAM, "--root", bundle.state, "create", "one"], cwd=bundle.folder)
    bundle.made.append("one")
    with fifo.open() as file:
        caller, hooked = map(int, file.read().split())
    assert caller == victim.pid
    state = bundle.read_state("one")
    assert state["status"] == "creating"
    victim.kill()
    victim.wait()
    os.kill(hooked, signal.SIGKILL)  # a hook is the caller's own affair
    await_end(state["pid"])
    assert bundle.read_state("one")["status"] == "stopped"
    bundle.do("delete", "one")
    spec["hooks"] = {}
    assert bundle.run(spec, "one") == "hello\n"


def test_nothing_of_the_hosts_interpreter_is_within_reach(bundle: Bundle) -> None:
    """What waits to become the container runs from a sealed copy, and sees the container alone."""
    bundle.create("one", bundle.spec("true"))
    pid = bundle.read_state("one")["pid"]
    program = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    assert str(Path(f"/proc/{pid}/exe").readlink()).startswith("/memfd:pannier")
    assert fcntl.fcntl(program, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    os.close(program)
    mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    assert {line.split()[1].split("/")[1] for line in mounts} <= {"", "proc", "sys", "dev"}
