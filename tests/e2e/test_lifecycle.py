"""Run, write, stop, start again, commit, remove: on both storage drivers and every network mode."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon

MODES = ["bridge", "none", "host", "container:other"]


def test_a_whole_life_on_each_storage_and_network(storage_daemon: Daemon) -> None:
    """What was written is there after a restart and in the image committed from it."""
    cli = storage_daemon.cli
    cli("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    for mode in MODES:
        script = "cat /kept 2>/dev/null; echo written >> /kept; rm -f /etc/group; exec sleep 1000"
        cli("run", "-d", "--name", "cc", "--network", mode, "busybox", "sh", "-c", script)
        cli("exec", "cc", "touch", "/more")
        cli("stop", "-t", "0", "cc")
        assert storage_daemon.inspect("cc")["State"]["Status"] == "exited"
        cli("start", "cc")
        cli("exec", "cc", "sh", "-c", "until [ $(wc -l < /kept) = 2 ]; do sleep 0.05; done")
        assert cli("logs", "cc").stdout == "written\n"
        changes = set(cli("diff", "cc").stdout.splitlines())
        assert {"A /kept", "A /more", "D /etc/group", "C /etc"} <= changes
        cli("commit", "cc", "made:1")
        seen = cli("run", "--rm", "made:1", "sh", "-c", "cat /kept; ls /more /etc").stdout.split()
        assert seen[:3] == ["written", "written", "/more"]
        assert "group" not in seen
        cli("rm", "-f", "cc")
        cli("rmi", "made:1")
    cli("rm", "-f", "other")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_exit_status_is_the_commands(daemon: Daemon, command: list[str], status: int) -> None:
    """127 where there is no such command, 126 where it cannot be executed, 128+n for a signal."""
    done = daemon.cli("run", "--rm", "busybox", *command, check=False)
    assert done.returncode == status
    assert daemon.cli("ps", "-aq").stdout == ""


def test_a_trace_of_a_removed_container_can_be_read(daemon: Daemon, tmp_path: Path) -> None:
    """``run --rm --trace`` prints the waterfall though the container is gone by then."""
    done = daemon.cli("run", "--rm", "--trace", "busybox", "echo", "done")
    assert done.stdout == "done\n"
    assert "mount" in done.stderr
    daemon.cli("run", "--rm", f"--trace={tmp_path}/trace.json", "busybox", "true")
    names = {
        event["name"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    }
    assert any("create group" in name for name in names)


def test_a_daemon_error_has_status_125(daemon: Daemon) -> None:
    """The container was not made."""
    assert daemon.cli("run", "no/such:image", "true", check=False).returncode == 125


def test_streams_are_kept_apart(daemon: Daemon) -> None:
    """Stdout and stderr arrive where they belong, and so they are logged."""
    script = "echo out; echo err >&2"
    done = daemon.cli("run", "--name", "streams", "busybox", "sh", "-c", script)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    logged = daemon.cli("logs", "streams")
    assert (logged.stdout, logged.stderr) == ("out\n", "err\n")


def test_input_goes_through_a_pipe(daemon: Daemon) -> None:
    """Three megabytes go in and come out, and the end of input ends the command."""
    data = bytes(range(256)) * 4096 * 3
    done = daemon.cli("run", "--rm", "-i", "busybox", "wc", "-c", input=data)
    assert int(done.stdout) == len(data)
    echoed = daemon.cli("run", "--rm", "-i", "busybox", "cat", input=b"line\n" * 1000)
    assert echoed.stdout == "line\n" * 1000


def test_large_output_arrives_whole(daemon: Daemon) -> None:
    """Twenty megabytes are not cut at the end of the process."""
    done = daemon.cli("run", "--rm", "busybox", "sh", "-c", "yes 0123456789 | head -n 2000000")
    assert len(done.stdout) == 22_000_000


def test_exec_runs_in_the_container(daemon: Daemon) -> None:
    """It sees the container's processes and files, and its own status comes back."""
    daemon.cli("run", "-d", "--name", "execs", "-e", "A=b", "busybox", "sleep", "1000")
    assert daemon.cli("exec", "execs", "cat", "/proc/1/cmdline").stdout.startswith("sleep")
    assert daemon.cli("exec", "-e", "C=d", "execs", "sh", "-c", "echo $A $C").stdout == "b d\n"
    assert daemon.cli("exec", "execs", "sh", "-c", "exit 7", check=False).returncode == 7
    assert daemon.cli("exec", "execs", "nothing", check=False).returncode == 127
    assert (
        daemon.cli(
            "exec", "-w", "/tmp", "-u", "5:6", "execs", "sh", "-c", "pwd; id -u; id -g"
        ).stdout
        == "/tmp\n5\n6\n"
    )
    assert daemon.cli("exec", "-i", "execs", "cat", input="through").stdout == "through"


def test_files_are_copied_in_and_out(daemon: Daemon, tmp_path: Path) -> None:
    """Into running and stopped containers, from them, and through pipes."""
    source = tmp_path / "file"
    source.write_text("content")
    source.chmod(0o640)
    daemon.cli("create", "--name", "copies", "busybox", "sleep", "1000")
    daemon.cli("cp", str(source), "copies:/root/")
    daemon.cli("start", "copies")
    assert daemon.cli("exec", "copies", "cat", "/root/file").stdout == "content"
    assert daemon.cli("exec", "copies", "stat", "-c", "%a", "/root/file").stdout == "640\n"
    daemon.cli("cp", "copies:/root/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"


def test_a_links_target_stays_inside_when_copying(daemon: Daemon, tmp_path: Path) -> None:
    """A link in the container that names a host path leads nowhere on the host (CVE-2018-15664)."""
    secret = tmp_path / "secret"
    secret.write_text("host")
    daemon.cli("run", "--name", "links", "busybox", "ln", "-s", str(tmp_path), "/out")
    done = daemon.cli("cp", "-L", "links:/out/secret", str(tmp_path / "stolen"), check=False)
    assert done.returncode != 0
    daemon.cli("cp", str(secret), "links:/out/written", check=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


def test_volumes_keep_their_content(daemon: Daemon, tmp_path: Path) -> None:
    """Named volumes outlive containers; binds show the host's folder; read-only ones refuse."""
    daemon.cli("volume", "create", "vol")
    daemon.cli("run", "--rm", "-v", "vol:/data", "busybox", "sh", "-c", "echo kept > /data/x")
    assert (
        daemon.cli("run", "--rm", "-v", "vol:/data:ro", "busybox", "cat", "/data/x").stdout
        == "kept\n"
    )
    refused = daemon.cli(
        "run", "--rm", "-v", "vol:/data:ro", "busybox", "touch", "/data/y", check=False
    )
    assert refused.returncode != 0
    daemon.cli("run", "--rm", "-v", f"{tmp_path}:/host", "busybox", "sh", "-c", "echo 1 > /host/f")
    assert (tmp_path / "f").read_text() == "1\n"
    assert "vol" in daemon.cli("volume", "ls", "-q").stdout.split()
    daemon.cli("volume", "rm", "vol")


def test_an_images_folder_is_copied_into_a_new_volume(daemon: Daemon) -> None:
    """As Docker does at the first use of an empty named volume."""
    daemon.cli("run", "--rm", "-v", "copied:/etc", "busybox", "true")
    assert (
        "root" in daemon.cli("run", "--rm", "-v", "copied:/x", "busybox", "cat", "/x/passwd").stdout
    )
    daemon.cli("volume", "rm", "copied")


def test_explain_does_nothing(daemon: Daemon) -> None:
    """Layers, mounts, namespaces, limits, links and capabilities are named; nothing is made."""
    text = daemon.cli("run", "--explain", "-m", "64m", "-p", "8099:80", "busybox", "true").stdout
    for word in ("overlay", "pivot root", "pid", "memory", "veth", "8099", "seccomp", "CAP_CHOWN"):
        assert word.lower() in text.lower(), word
    assert daemon.cli("ps", "-aq").stdout == ""


def test_trace_gives_times_for_perfetto(daemon: Daemon, tmp_path: Path) -> None:
    """The file is in the Trace Event format, the container runs."""
    path = tmp_path / "trace.json"
    done = daemon.cli("run", "--rm", f"--trace={path}", "busybox", "echo", "ran")
    assert done.stdout == "ran\n"
    events = json.loads(path.read_text())["traceEvents"]
    spans = [event for event in events if event.get("ph") == "X"]
    assert len(spans) > 10
    assert all(span["dur"] >= 0 for span in spans)


def test_a_restart_policy_starts_it_again(daemon: Daemon) -> None:
    """on-failure:2 tries twice more, then gives up."""
    daemon.cli("run", "-d", "--name", "restarts", "--restart", "on-failure:2", "busybox", "false")
    daemon.cli("wait", "restarts")
    for _ in range(100):
        state = daemon.inspect("restarts")
        if state["RestartCount"] == 2 and state["State"]["Status"] == "exited":
            break
        daemon.cli("exec", "restarts", "true", check=False)
    assert (state["RestartCount"], state["State"]["Status"]) == (2, "exited")


def test_save_and_load_keep_the_image(daemon: Daemon, tmp_path: Path) -> None:
    """The same image gives the same bytes, and the same id when it comes back."""
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    before = daemon.inspect("busybox")["Id"]
    daemon.cli("save", "-o", str(first), "busybox")
    daemon.cli("save", "-o", str(second), "busybox")
    assert first.read_bytes() == second.read_bytes()
    daemon.cli("rmi", "-f", "busybox")
    daemon.cli("load", "-i", str(first))
    assert daemon.inspect("busybox")["Id"] == before


def test_users_come_from_the_images_own_files(daemon: Daemon) -> None:
    """A name is looked up in the image; one that is not there is an error."""
    assert daemon.cli("run", "--rm", "-u", "root", "busybox", "id", "-un").stdout == "root\n"
    done = daemon.cli("run", "--rm", "-u", "nobody-here", "busybox", "true", check=False)
    assert done.returncode in {125, 126}
    assert "unable to find user nobody-here" in done.stderr
