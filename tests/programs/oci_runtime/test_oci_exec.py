"""``pannier-runtime exec``: further processes in a container that runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.bundles import Console, read_terminal
from support.native import BUSYBOX

if TYPE_CHECKING:
    from support.bundles import Bundle

pytestmark = pytest.mark.root

SHOW = "id -u; id -g; pwd; echo $WORD; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"


@pytest.fixture
def running(bundle: Bundle) -> Bundle:
    """Give a container that runs, with a filter, without new privileges."""
    seccomp: Any = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    bundle.create("one", bundle.spec("sleep", "1000", seccomp=seccomp))
    bundle.do("start", "one")
    return bundle


def test_a_process_is_in_the_containers_namespaces_and_group(running: Bundle) -> None:
    """In every one of them, and in its control group; its status is exec's own."""
    pid = running.read_state("one")["pid"]
    done = running.call(
        "exec", "one", "sh", "-c", "ls -l /proc/self/ns; cat /proc/self/cgroup; exit 3"
    )
    assert done.returncode == 3, done.stderr
    for kind in ("mnt", "pid", "uts", "ipc", "net", "cgroup"):
        assert str(Path(f"/proc/{pid}/ns/{kind}").readlink()) in done.stdout
    groups = [line.rpartition(":")[2] for line in done.stdout.splitlines() if "memory:" in line]
    assert groups in ([], ["/"])


def test_a_process_is_as_the_command_line_says(running: Bundle) -> None:
    """User, folder, environment; the filter is the container's."""
    words = ("--user", "1000:1001", "--cwd", "/tmp", "--env", "WORD=word", "--no-new-privs")
    shown = running.do("exec", *words, "one", "sh", "-c", f"{SHOW}; mkdir /tmp/x || true")
    lines = shown.split()
    assert lines[:4] == ["1000", "1001", "/tmp", "word"]
    assert lines[4:] == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert not (running.folder / "rootfs/tmp/x").exists()


def test_a_process_is_as_a_file_says(running: Bundle, tmp_path: Path) -> None:
    """Whole, with its affinity; detached, it goes on behind exec, with its pid in a file."""
    process = running.spec("sh", "-c", "echo $WORD; grep Cpus_allowed_list /proc/self/status")
    described: dict[str, Any] = dict(process["process"])
    described["env"] = ["PATH=/bin", "WORD=word"]
    described["execCPUAffinity"] = {"initial": "0-1", "final": "0"}
    (tmp_path / "process.json").write_text(json.dumps(described))
    shown = running.do("exec", "--process", str(tmp_path / "process.json"), "one")
    assert shown.split() == ["word", "Cpus_allowed_list:", "0"]
    described["args"] = ["sleep", "1000"]
    (tmp_path / "process.json").write_text(json.dumps(described))
    with (tmp_path / "out").open("w") as out:
        done = running.call(
            *("exec", "--detach", "--pid-file", str(tmp_path / "pid")),
            *("--process", str(tmp_path / "process.json"), "one"),
            stdout=out,
            stderr=out,
        )
    assert done.returncode == 0
    pid = int((tmp_path / "pid").read_text())
    assert pid in json.loads(running.do("ps", "--format", "json", "one"))


def test_a_process_gets_a_terminal(running: Bundle, tmp_path: Path) -> None:
    """Of the container's own devpts, sent to the console socket."""
    console = Console(tmp_path / "console")
    running.do(
        *("exec", "--detach", "--tty", "--console-socket", str(console.path)),
        *("one", "sh", "-c", "tty; test -t 2 && echo yes"),
    )
    assert read_terminal(console.master()) == "/dev/pts/0\r\nyes\r\n"


def test_what_cannot_be_executed_says_why(running: Bundle) -> None:
    """In the words that engines look for; and what is not offered is named."""
    said = running.refused("exec", "one", "nosuch")
    assert 'exec: "nosuch": executable file not found in $PATH' in said
    assert "--apparmor is not offered" in running.refused("exec", "--apparmor", "x", "one", "sh")
    assert "does not exist" in running.refused("exec", "two", "sh")
    running.do("kill", "one", "KILL")
    assert "exec in a stopped container" in running.refused("exec", "one", "sh")


def test_a_program_behind_a_hosts_descriptor_is_not_found(bundle: Bundle, tmp_path: Path) -> None:
    """Neither as the first program nor as one that is added, nor by looking for it."""
    outside = tmp_path / "outside/echo"
    outside.parent.mkdir()
    shutil.copy(BUSYBOX, outside)
    ways = [f"/proc/self/fd/{number}{'/..' * 12}{outside}" for number in range(3, 9)]
    for number, way in enumerate(ways):
        bundle.write(bundle.spec(way, "escaped"))
        assert "no such file or directory" in bundle.refused("create", f"c{number}")
    bundle.create("one", bundle.spec("sleep", "1000"))
    bundle.do("start", "one")
    for way in ways:
        assert "no such file or directory" in bundle.refused("exec", "one", way, "escaped")


def test_a_process_is_not_left_running_without_its_pid_file(
    running: Bundle, tmp_path: Path
) -> None:
    """The command fails and ends; neither the process nor half a file is left."""
    taken = tmp_path / "taken"
    taken.mkdir()
    before = sorted(tmp_path.iterdir())
    for words in ((), ("--detach",)):
        # Its output is not ours to wait for: a process that is left would hold a pipe open.
        running.refused(
            *("exec", *words, "--pid-file", str(taken), "one", "sleep", "1002"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert len(json.loads(running.do("ps", "--format", "json", "one"))) == 1
    assert sorted(tmp_path.iterdir()) == before
