"""``run``, ``start``, ``attach`` and ``exec``: the order of requests, streams and statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ID = "c" * 64
PATH = f"/containers/{ID}"


class Container:
    """A container of the stand-in daemon: its output, its status, and what it was sent."""

    def __init__(self, daemon: Any, frame: Any, *, status: int = 0) -> None:
        self.daemon = daemon
        self.frame = frame
        self.status = status
        self.output = b""
        self.started = threading.Event()
        self.ended = threading.Event()
        self.received = b""
        self.signals: list[str] = []
        daemon.reply("POST", "/containers/create", {"Id": ID, "Warnings": []}, 201)
        daemon.on("POST", f"{PATH}/wait", self._wait)
        daemon.on("POST", f"{PATH}/attach", self._attach)
        daemon.on("POST", f"{PATH}/start", self._start)
        daemon.on("POST", f"{PATH}/kill", self._kill)

    def _wait(self, request: Any) -> None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert self.ended.wait(20)
        body = b'{"StatusCode":%d}' % self.status
        request.sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    def _attach(self, request: Any) -> None:
        request.upgrade()
        assert self.started.wait(20)
        try:
            request.sock.sendall(self.output)
            if "stdin=1" in request.query:
                self.received = request.read_input()
                request.sock.sendall(self.frame(1, self.received))
            elif self.output.endswith(b"ready"):
                assert self.ended.wait(20)
        finally:
            self.ended.set()

    def _start(self, request: Any) -> None:
        self.started.set()
        request.answer(204)

    def _kill(self, request: Any) -> None:
        self.signals.append(request.query)
        request.answer(204)
        self.ended.set()


@pytest.fixture
def container(daemon: Any, frame: Any) -> Container:
    """Return a container of the stand-in."""
    return Container(daemon, frame)


def test_a_foreground_run_is_four_requests(
    cli: Callable[..., Any], daemon: Any, container: Container, frame: Any
) -> None:
    """Create, wait, attach, start: the wait is registered and the streams held before the start."""
    container.output = frame(1, b"out\n") + frame(2, b"err\n")
    container.status = 7
    outcome = cli("run", "busybox", "x")
    assert outcome == (7, "out\n", "err\n")
    asked = [one for one in daemon.asked() if one != "GET /_ping"]
    assert asked[0] == "POST /containers/create"
    assert set(asked[1:3]) == {f"POST {PATH}/wait", f"POST {PATH}/attach"}
    assert asked[3:] == [f"POST {PATH}/start"]
    queries = {one.path: one.query for one in daemon.requests}
    assert queries[f"{PATH}/wait"] == "condition=next-exit"
    assert queries[f"{PATH}/attach"] == "stream=1&stdout=1&stderr=1"


def test_with_rm_the_removal_is_awaited(
    cli: Callable[..., Any], daemon: Any, container: Container
) -> None:
    """``--rm`` waits for the container to be gone."""
    container.status = 0
    assert cli("run", "--rm", "busybox").status == 0
    assert [one.query for one in daemon.requests if one.path.endswith("wait")] == [
        "condition=removed"
    ]
    create = next(one for one in daemon.requests if one.path.endswith("create"))
    assert create.json()["HostConfig"]["AutoRemove"] is True


def test_input_goes_in_and_its_end_too(container: Container, daemon: Any) -> None:
    """``-i``: stdin arrives whole, its end is the container's, and output still comes."""
    data = os.urandom(3_000_000)
    done = _program(daemon, "run", "-i", "busybox", input=data)
    assert container.received == data
    assert done.stdout == data
    assert done.returncode == 0


def _program(daemon: Any, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pannier.cli", *words],
        env={**os.environ, "PANNIER_HOST": str(daemon.path)},
        capture_output=True,
        check=False,
        timeout=60,
        **options,
    )


def test_large_output_is_not_kept(container: Container, daemon: Any, frame: Any) -> None:
    """A hundred megabytes pass through in bounded memory."""
    container.output = frame(1, bytes(1 << 20)) * 100
    program = (
        "import sys\n"
        "from pannier.cli.__main__ import run\n"
        "status = run(['run', 'busybox'])\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "peak = next(line.split()[1] for line in lines if line.startswith('VmHWM'))\n"
        "sys.stderr.write(peak)\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PANNIER_HOST": str(daemon.path)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, len(done.stdout)) == (0, 100 << 20)
    assert int(done.stderr) < 60_000


def test_signals_are_forwarded(container: Container, daemon: Any, frame: Any) -> None:
    """Without a terminal, a signal goes to the container's process and not to this one."""
    container.output = frame(1, b"ready")
    container.status = 130
    with subprocess.Popen(
        [sys.executable, "-m", "pannier.cli", "run", "busybox"],
        env={**os.environ, "PANNIER_HOST": str(daemon.path)},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.read(5) == b"ready"
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    assert container.signals == ["signal=INT"]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('exec: "/nope": stat /nope: no such file or directory', 127),
        ('exec: "nope": executable file not found in $PATH', 127),
        ('exec: "/bin": permission denied', 126),
        ("port 80 is taken", 125),
    ],
)
def test_a_refused_start_has_its_status(
    cli: Callable[..., Any], daemon: Any, container: Container, message: str, status: int
) -> None:
    """127 for what is not there, 126 for what cannot run, 125 for the daemon's own reasons."""
    del container

    def refuse(request: Any) -> None:
        request.answer(400, {"message": message, "hint": "do this"})

    daemon.on("POST", f"{PATH}/start", refuse)
    daemon.on("POST", f"{PATH}/attach", lambda request: request.upgrade())
    daemon.on("POST", f"{PATH}/wait", lambda request: request.answer(200, {"StatusCode": 0}))
    outcome = cli("run", "--rm", "busybox", "nope")
    assert outcome.status == status
    assert outcome.err == f"Error: {message}\nhint: do this\n"


def test_a_detached_run_prints_the_id(
    cli: Callable[..., Any], daemon: Any, container: Container, tmp_path: Path
) -> None:
    """``-d`` starts and prints the id; ``--cidfile`` keeps it, and is not overwritten."""
    del container
    file = tmp_path / "cid"
    outcome = cli("run", "-d", "--cidfile", str(file), "busybox")
    assert (outcome.status, outcome.out) == (0, f"{ID}\n")
    assert file.read_text() == ID
    again = cli("run", "-d", "--cidfile", str(file), "busybox")
    assert again.status == 125
    assert "container ID file found" in again.err
    assert [one for one in daemon.asked() if one != "GET /_ping"] == [
        "POST /containers/create",
        f"POST {PATH}/start",
    ]


def test_a_missing_image_is_pulled_once(
    cli: Callable[..., Any], daemon: Any, container: Container
) -> None:
    """``--pull missing`` asks for the image and creates again; ``never`` does not."""
    del container
    tries: list[int] = []

    def create(request: Any) -> None:
        tries.append(1)
        if len(tries) % 2:
            request.answer(404, {"message": "No such image: busybox:latest"})
        else:
            request.answer(201, {"Id": ID})

    daemon.on("POST", "/containers/create", create)
    daemon.reply("POST", "/images/create", {"status": "Pulling from library/busybox", "id": "l"})
    outcome = cli("run", "-d", "busybox")
    assert (outcome.status, outcome.out) == (0, f"{ID}\n")
    assert outcome.err.startswith("Unable to find image 'busybox:latest' locally\n")
    refused = cli("run", "-d", "--pull", "never", "busybox")
    assert refused.status == 125
    assert refused.err == "Error: No such image: busybox:latest\n"
    assert daemon.asked().count("POST /images/create") == 1


def test_warnings_go_to_stderr(cli: Callable[..., Any], daemon: Any) -> None:
    """What the daemon warns of does not mix with the id."""
    daemon.reply("POST", "/containers/create", {"Id": ID, "Warnings": ["no swap limit"]}, 201)
    outcome = cli("create", "busybox")
    assert outcome == (0, f"{ID}\n", "WARNING: no swap limit\n")


def test_it_needs_a_terminal(cli: Callable[..., Any], daemon: Any) -> None:
    """``-it`` without a terminal on stdin is refused before anything is asked."""
    with open(os.devnull) as null:  # noqa: PTH123 - a descriptor is what is wanted
        saved = os.dup(0)
        os.dup2(null.fileno(), 0)
        try:
            outcome = cli("run", "-it", "busybox")
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    assert outcome.status == 1
    assert "not a TTY" in outcome.err
    assert daemon.asked() == []


def test_start_attaches_to_what_the_container_has(
    cli: Callable[..., Any], daemon: Any, container: Container, frame: Any
) -> None:
    """``start -a`` is the same order as ``run``, with the container's own settings."""
    container.output = frame(1, b"again\n")
    container.status = 3
    found = {"Id": ID, "Config": {"Tty": False}, "HostConfig": {"AutoRemove": True}}
    daemon.reply("GET", "/containers/web/json", found)
    outcome = cli("start", "-a", "web")
    assert (outcome.status, outcome.out) == (3, "again\n")
    assert [one.query for one in daemon.requests if one.path.endswith("wait")] == [
        "condition=removed"
    ]


def test_attach_refuses_what_does_not_run(cli: Callable[..., Any], daemon: Any) -> None:
    """A stopped or paused container cannot be attached to, and the hint says what to do."""
    daemon.reply("GET", "/containers/a/json", {"Id": ID, "State": {}, "Config": {}})
    state = {"Running": True, "Paused": True}
    daemon.reply("GET", "/containers/b/json", {"Id": ID, "State": state, "Config": {}})
    assert cli("attach", "a").err == (
        "Error: You cannot attach to a stopped container, start it first\n"
    )
    assert "unpause" in cli("attach", "b").err


def test_exec_returns_the_commands_status(cli: Callable[..., Any], daemon: Any, frame: Any) -> None:
    """Three requests: create, start (taken over), status."""
    daemon.reply("POST", "/containers/web/exec", {"Id": "e1"}, 201)

    def start(request: Any) -> None:
        request.upgrade()
        request.sock.sendall(frame(1, b"hello\n") + frame(2, b"oops\n"))

    daemon.on("POST", "/exec/e1/start", start)
    daemon.reply("GET", "/exec/e1/json", {"ExitCode": 9})
    outcome = cli("exec", "-e", "A=1", "-u", "7", "web", "ls", "-la")
    assert outcome == (9, "hello\n", "oops\n")
    asked = [one for one in daemon.requests if one.path != "/_ping"]
    assert [one.path for one in asked] == [
        "/containers/web/exec",
        "/exec/e1/start",
        "/exec/e1/json",
    ]
    assert asked[0].json() == {
        "Cmd": ["ls", "-la"],
        "AttachStdout": True,
        "AttachStderr": True,
        "Env": ["A=1"],
        "User": "7",
    }


def test_a_detached_exec_returns_at_once(cli: Callable[..., Any], daemon: Any) -> None:
    """``exec -d`` starts and attaches nothing."""
    daemon.reply("POST", "/containers/web/exec", {"Id": "e1"}, 201)
    daemon.reply("POST", "/exec/e1/start", b"")
    assert cli("exec", "-d", "web", "true") == (0, "", "")
    assert daemon.requests[-1].json() == {"Detach": True, "Tty": False}


def test_a_closed_output_ends_with_its_signals_status(
    container: Container, daemon: Any, frame: Any
) -> None:
    """``run … | head`` ends as a program that SIGPIPE ended, without a word."""
    container.output = frame(1, bytes(1 << 20)) * 4
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pannier.cli", "run", "busybox"],
        env={**os.environ, "PANNIER_HOST": str(daemon.path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
