"""``-it`` is a real terminal: raw, sized, detachable, and put back as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pannier.cli.command import UsageError
from pannier.cli.terminal import KeyWatch, parse_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

ID = "d" * 64
PATH = f"/containers/{ID}"


class Terminal:
    """A terminal with a command line running on it."""

    def __init__(self, daemon: Any, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(33, 101)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.running = subprocess.Popen(
            [sys.executable, "-m", "pannier.cli", *words],
            env={**os.environ, "PANNIER_HOST": str(daemon.path)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, text: bytes) -> bytes:
        """Read the screen until something appears."""
        found = b""
        while text not in found:
            found += os.read(self.master, 65536)
        return found

    def is_raw(self) -> bool:
        """Say whether keys are handed on one by one."""
        return not termios.tcgetattr(self._slave)[3] & (termios.ICANON | termios.ECHO)

    def finish(self) -> int:
        """Wait for the command line's end; the terminal must be as it was before."""
        status = self.running.wait(20)
        assert termios.tcgetattr(self._slave) == self.before
        return status

    def close(self) -> None:
        """Give the terminal up."""
        self.running.kill()
        self.running.wait(20)
        os.close(self.master)
        os.close(self._slave)


class Shell:
    """A container with a terminal: it echoes in capitals, and ends at ``exit``."""

    def __init__(self, daemon: Any) -> None:
        self.sizes: list[str] = []
        self.sized = threading.Event()
        self.keys = ""
        self.started = threading.Event()
        self.ended = threading.Event()
        daemon.reply("POST", "/containers/create", {"Id": ID}, 201)
        daemon.on("POST", f"{PATH}/start", self._start)
        daemon.on("POST", f"{PATH}/wait", self._wait)
        daemon.on("POST", f"{PATH}/attach", self._attach)
        daemon.on("POST", f"{PATH}/resize", self._resize)

    def _start(self, request: Any) -> None:
        self.started.set()
        request.answer(204)

    def _wait(self, request: Any) -> None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if self.ended.wait(20):
            request.sock.sendall(b'10\r\n{"StatusCode":5}\r\n0\r\n\r\n')

    def _attach(self, request: Any) -> None:
        self.keys = request.query
        request.upgrade()
        assert self.started.wait(20)
        request.sock.sendall(b"ready> ")
        typed = b""
        while data := request.sock.recv(4096):
            typed += data
            request.sock.sendall(data.upper())
            if typed.endswith(b"exit\r"):
                self.ended.set()
                return
            if typed.endswith(b"\x10\x11"):
                return

    def _resize(self, request: Any) -> None:
        self.sizes.append(request.query)
        request.answer(200)
        self.sized.set()


@pytest.fixture
def shell(daemon: Any) -> Shell:
    """Return a container with a terminal."""
    return Shell(daemon)


@pytest.fixture
def terminal(daemon: Any, shell: Shell) -> Iterator[Terminal]:
    """Yield a terminal on which ``run -it`` shows the shell's prompt."""
    found = Terminal(daemon, "run", "-it", "busybox")
    found.read_until(b"ready> ")
    yield found
    found.close()
    shell.ended.set()


def test_keys_go_as_they_are(terminal: Terminal, shell: Shell, daemon: Any) -> None:
    """Raw mode hands each key on, unechoed; the status is the process's; the size is known."""
    assert terminal.is_raw()
    os.write(terminal.master, b"a\x03b")
    assert terminal.read_until(b"B") == b"A\x03B"
    os.write(terminal.master, b"exit\r")
    assert terminal.finish() == 5
    assert shell.sizes[0] == "h=33&w=101"
    create = next(one for one in daemon.requests if one.path.endswith("create"))
    assert create.json()["HostConfig"]["ConsoleSize"] == [33, 101]


def test_a_new_size_is_told(terminal: Terminal, shell: Shell) -> None:
    """A terminal that changes its size tells the container."""
    assert shell.sized.wait(20)
    shell.sized.clear()
    terminal.resize(22, 77)
    terminal.running.send_signal(signal.SIGWINCH)
    assert shell.sized.wait(20)
    assert shell.sizes[-1] == "h=22&w=77"


def test_detaching_leaves_the_container_running(terminal: Terminal, shell: Shell) -> None:
    """The detach keys end the command with 0, and do not wait for the process."""
    os.write(terminal.master, b"\x10\x11")
    terminal.read_until(b"read escape sequence")
    assert terminal.finish() == 0
    assert not shell.ended.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_killed_command_puts_the_terminal_back(
    terminal: Terminal, number: signal.Signals
) -> None:
    """A signal from elsewhere ends the command, and the terminal is as it was."""
    terminal.running.send_signal(number)
    assert terminal.finish() == 128 + number


def test_a_daemon_that_dies_puts_the_terminal_back(daemon: Any) -> None:
    """A stream that breaks off leaves no raw terminal behind."""
    shell = Shell(daemon)

    def die(request: Any) -> None:
        request.upgrade()
        assert shell.started.wait(20)
        shell.ended.set()

    daemon.on("POST", f"{PATH}/attach", die)
    found = Terminal(daemon, "run", "-it", "busybox")
    try:
        assert found.finish() == 5
    finally:
        found.close()


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("ctrl-a,d", b"\x01d"),
        ("DEL,A", b"\x7fA"),
    ],
)
def test_detach_keys_are_read(text: str, keys: bytes) -> None:
    """Letters and control characters."""
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ab", "ctrl-", "ctrl-1", "ctrl-A", "ctrl-ab", "é", "a,,b"])
def test_other_detach_keys_are_refused(text: str) -> None:
    """What is no key is an error before anything runs."""
    with pytest.raises(UsageError):
        parse_keys(text)


def test_a_sequence_is_seen_across_reads() -> None:
    """Keys that arrive one by one are still the sequence; others are not."""
    watch = KeyWatch(b"\x10\x11")
    for data in (b"\x10", b"x", b"\x11", b"\x10"):
        watch.feed(data)
    assert not watch.seen
    watch.feed(b"\x11")
    assert watch.seen


def test_stats_writes_over_what_stands_there(daemon: Any) -> None:
    """The screen is cleared once; Ctrl-C ends it with the shell's status for that."""
    sample = {
        "id": ID,
        "name": "/web",
        "cpu_stats": {},
        "memory_stats": {"usage": 4096, "limit": 8192},
    }
    daemon.reply("GET", f"{PATH}/json", {"Id": ID})
    daemon.reply("GET", f"{PATH}/stats", sample)
    terminal = Terminal(daemon, "stats", ID)
    try:
        screen = b"".join(terminal.read_until(b"\x1b[J") for _ in range(2))
        assert screen.count(b"\x1b[2J") == 1
        assert screen.count(b"\x1b[H") == 2
        *lines, _ = screen.partition(b"\x1b[H")[2].partition(b"\x1b[J")[0].split(b"\n")
        assert [line.split()[0] for line in lines] == [b"CONTAINER", ID[:12].encode()]
        assert all(line.endswith(b"\x1b[K\r") for line in lines)
        terminal.running.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    finally:
        terminal.close()
