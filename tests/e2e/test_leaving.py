"""Clients that leave a process's streams: by keys, by hanging up, at the end of their input."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.daemon import Daemon

PANNIER = str(Path(sys.executable).parent / "pannier")
CLIENTS = [
    pytest.param(PANNIER, ["detach", "exec_detach"], id="pannier"),
    # It looks for the keys itself, sends them to no engine, and hangs up.
    pytest.param(
        "docker",
        [],
        id="docker",
        marks=pytest.mark.skipif(
            shutil.which("docker") is None, reason="needs docker: apt-get install docker.io"
        ),
    ),
]
SECONDS = 60.0
KEYS = b"\x10\x11"


class Session:
    """A client on a terminal of its own."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            words,
            env=os.environ | {"PANNIER_HOST": daemon.host, "DOCKER_HOST": daemon.host},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def say(self, data: bytes, answer: bytes) -> None:
        """Type something, and read until an answer comes."""
        os.write(self.master, data)
        found = b""
        while answer not in found:
            found += os.read(self.master, 4096)

    def leave(self) -> None:
        """Type the detaching keys, and wait for the client's end."""
        os.write(self.master, KEYS)
        self.process.wait(SECONDS)
        os.close(self.master)

    def vanish(self) -> None:
        """End the client at once."""
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self.master)


@pytest.fixture
def begun() -> str:
    """Return the time at which a test began."""
    return f"{time.time():.6f}"


def told(daemon: Daemon, begun: str) -> list[str]:
    """Remove the container ``box``; return what was told of leaving and ending until then."""
    daemon.cli("rm", "-f", "box")
    words = ["events", "--since", begun, "--until", f"{time.time():.6f}", "-f", "container=box"]
    actions = daemon.cli(*words, "--format", "{{.Action}}").stdout.split("\n")
    return [name for name in actions if name in {"detach", "exec_detach", "exec_die", "die"}]


@pytest.mark.parametrize(("client", "left"), CLIENTS)
def test_who_leaves_by_keys_is_told_of_once(
    daemon: Daemon, client: str, left: list[str], begun: str
) -> None:
    """At its container and at an exec; both run on. Of one that vanishes nothing is told."""
    session = Session(daemon, client, "run", "-it", "--name", "box", "busybox", "cat")
    session.say(b"one\n", b"one\r\none\r\n")
    session.leave()
    session = Session(daemon, client, "exec", "-it", "box", "cat")
    session.say(b"two\n", b"two\r\ntwo\r\n")
    session.leave()
    session = Session(daemon, client, "attach", "box")
    session.say(b"three\n", b"three\r\nthree\r\n")
    session.vanish()
    assert daemon.inspect("box")["State"]["Running"]
    assert told(daemon, begun) == [*left, "exec_die", "die"]


def attach(daemon: Daemon, query: str = "stream=1&stdin=1&stdout=1") -> socket.socket:
    """Return a connection that is attached to ``box``."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(SECONDS)
    client.connect(str(daemon.socket))
    head = f"POST /v1.41/containers/box/attach?{query} HTTP/1.1\r\nHost: d\r\n"
    client.sendall(f"{head}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        found += client.recv(1)
    assert found.startswith(b"HTTP/1.1 101")
    return client


def until(client: socket.socket, text: bytes) -> None:
    """Read until a text comes."""
    found = b""
    while text not in found:
        piece = client.recv(4096)
        assert piece, found
        found += piece


@pytest.mark.parametrize("flag", ["-i", "-it"])
def test_the_end_of_an_input_that_stays_open(daemon: Daemon, flag: str, begun: str) -> None:
    """It is the end of its client, who has left without a word; the process does not learn of it.

    So it is with an input that stays open for others, and with every terminal.
    """
    daemon.cli("run", "-d", flag, "--name", "box", "busybox", "cat")
    for word in (b"one\n", b"two\n"):
        with attach(daemon) as client:
            client.sendall(word)
            until(client, word.strip())
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
    assert daemon.inspect("box")["State"]["Running"]
    assert told(daemon, begun) == ["die"]


def test_who_sees_the_end_finds_it_noted(daemon: Daemon) -> None:
    """The status is known to whoever asks for it when the streams have closed."""
    daemon.cli("create", "-i", "--name", "box", "busybox", "sh", "-c", "read line; exit $line")
    for status in range(1, 9):
        daemon.cli("start", "box")
        with attach(daemon) as client:
            client.sendall(b"%d\n" % status)
            assert client.recv(4096) == b""
        assert daemon.inspect("box")["State"]["ExitCode"] == status


def test_keys_across_a_kill_of_the_daemon(own_daemon: Daemon, begun: str) -> None:
    """Who leaves while there is no daemon is told of by the next."""
    own_daemon.cli("run", "-dit", "--name", "box", "busybox", "cat")
    with attach(own_daemon) as client:
        client.sendall(b"one\n")
        until(client, b"one\r\none\r\n")
        own_daemon.kill()
        client.sendall(KEYS)
        while client.recv(4096):
            pass
    own_daemon.start()
    assert told(own_daemon, begun) == ["detach", "die"]
