"""Pulls and log-ins on a terminal: bars that stay in their lines, passwords that are not shown."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECONDS = 20.0
_ESCAPE = re.compile(rb"\x1b\[(\d*)([A-Z])")
MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from library/x", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "aaaaaaaaaaaa"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "bbbbbbbbbbbb"},
    {
        "status": "Downloading",
        "progressDetail": {"current": 500, "total": 1000},
        "id": "aaaaaaaaaaaa",
    },
    {
        "status": "Downloading",
        "progressDetail": {"current": 250, "total": 1000},
        "id": "bbbbbbbbbbbb",
    },
]
ENDS: list[dict[str, Any]] = [
    {"status": "Pull complete", "progressDetail": {}, "id": "bbbbbbbbbbbb"},
    {"status": "Pull complete", "progressDetail": {}, "id": "aaaaaaaaaaaa"},
    {"status": "Digest: sha256:0"},
    {"status": "Status: Downloaded newer image for x:latest"},
]


class Screen:
    """A command line on a terminal, and what the terminal shows."""

    def __init__(self, daemon: Any, *words: str, columns: int = 80) -> None:
        self.master, self._slave = pty.openpty()
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        self.before = termios.tcgetattr(self._slave)
        self.raw = b""
        self.columns = columns
        self.running = subprocess.Popen(
            # In a session of its own, whose terminal it is, or keys would send no signals.
            ["setsid", "--ctty", sys.executable, "-m", "pannier.cli", *words],
            env={**os.environ, "PANNIER_HOST": str(daemon.path)},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )

    def read_until(self, found: Callable[[], bool]) -> None:
        """Read what comes until the screen shows something."""
        while not found():
            ready, _, _ = select.select([self.master], [], [], _SECONDS)
            assert ready, self.raw
            self.raw += os.read(self.master, 65536)

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.master, text.encode())

    def echoes(self) -> bool:
        """Say whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def finish(self) -> int:
        """Wait for the command line's end and read the rest; the terminal must be as before."""
        status = self.running.wait(_SECONDS)
        while select.select([self.master], [], [], 0)[0]:
            self.raw += os.read(self.master, 65536)
        assert termios.tcgetattr(self._slave) == self.before
        return status

    def lines(self) -> list[str]:
        """Return what the terminal shows, as one that knows cursor movements and erasure."""
        rows: list[bytearray] = [bytearray()]
        row = column = position = 0
        while position < len(self.raw):
            match = _ESCAPE.match(self.raw, position)
            if match:
                count, position = int(match[1] or 1), match.end()
                if match[2] == b"K":
                    rows[row] = bytearray()
                row += {b"A": -count, b"B": count}.get(match[2], 0)
                assert row >= 0
                continue
            character = self.raw[position]
            position += 1
            if character == 0x0D:
                column = 0
            elif character == 0x0A:
                row += 1
            else:
                assert column < self.columns, "a line was broken by the terminal"
                rows[row] = rows[row].ljust(column)
                rows[row][column : column + 1] = bytes([character])
                column += 1
            while row >= len(rows):
                rows.append(bytearray())
        return [bytes(one).decode().rstrip() for one in rows if one]

    def close(self) -> None:
        """Give the terminal up."""
        self.running.kill()
        self.running.wait(_SECONDS)
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def screen(daemon: Any) -> Iterator[Callable[..., Screen]]:
    """Return a function that runs a command line on a terminal."""
    made: list[Screen] = []

    def make(*words: str, columns: int = 80) -> Screen:
        made.append(Screen(daemon, *words, columns=columns))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where credentials are kept."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker"


class _Pull:
    """A pull of two layers that waits in its middle."""

    def __init__(self, daemon: Any) -> None:
        read, self._write = os.pipe()
        self._read = read
        daemon.on("POST", "/images/create", self._answer)

    def _answer(self, request: Any) -> None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for message in MESSAGES:
            self._say(request, message)
        os.read(self._read, 1)
        for message in ENDS:
            self._say(request, message)
        request.sock.sendall(b"0\r\n\r\n")

    def _say(self, request: Any, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\r\n"
        request.sock.sendall(b"%x\r\n%s\r\n" % (len(line), line))

    def go_on(self) -> None:
        """Let it come to its end."""
        os.write(self._write, b"x")

    def close(self) -> None:
        """Let go."""
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def pull(daemon: Any, folder: Path) -> Iterator[_Pull]:
    """Return a pull."""
    del folder  # no credentials but the test's
    made = _Pull(daemon)
    yield made
    made.close()


class TestProgress:
    """A line for each layer."""

    def test_bars_stay_in_their_lines(self, screen: Callable[..., Screen], pull: _Pull) -> None:
        """And give way to what became of each layer."""
        shown = screen("pull", "x")
        shown.read_until(lambda: b"250B/1kB" in shown.raw)
        first, second = shown.lines()[-2:]
        assert re.fullmatch(r"a{12}: Downloading \[=+> +\] +500B/1kB", first)
        assert re.fullmatch(r"b{12}: Downloading \[=+> +\] +250B/1kB", second)
        assert first.count("=") == pytest.approx(2 * second.count("="), abs=2)
        pull.go_on()
        assert shown.finish() == 0
        assert shown.lines() == [
            "Using default tag: latest",
            "latest: Pulling from library/x",
            "aaaaaaaaaaaa: Pull complete",
            "bbbbbbbbbbbb: Pull complete",
            "Digest: sha256:0",
            "Status: Downloaded newer image for x:latest",
            "docker.io/library/x:latest",
        ]

    def test_a_narrow_terminal(self, screen: Callable[..., Screen], pull: _Pull) -> None:
        """Breaks no line of a bar, or the cursor would be lost."""
        shown = screen("pull", "x", columns=50)
        pull.go_on()
        assert shown.finish() == 0
        assert [line for line in shown.lines() if line.endswith("Pull complete")] == [
            "aaaaaaaaaaaa: Pull complete",
            "bbbbbbbbbbbb: Pull complete",
        ]

    def test_elsewhere_there_are_plain_lines(
        self, daemon: Any, cli: Callable[..., Any], pull: _Pull
    ) -> None:
        """One for each thing that happens, without bars and without cursor movements."""
        del daemon
        pull.go_on()
        done = cli("pull", "x")
        assert done.status == 0
        assert "\x1b" not in done.out
        assert "Downloading" not in done.out
        assert done.out.splitlines()[1:6] == [
            "latest: Pulling from library/x",
            "aaaaaaaaaaaa: Pulling fs layer",
            "bbbbbbbbbbbb: Pulling fs layer",
            "bbbbbbbbbbbb: Pull complete",
            "aaaaaaaaaaaa: Pull complete",
        ]


class TestLogIn:
    """Who one is, asked on the terminal."""

    @pytest.fixture(autouse=True)
    def _accept(self, daemon: Any, folder: Path) -> None:
        del folder
        daemon.reply("POST", "/auth", {"Status": "Login Succeeded", "IdentityToken": ""})

    def test_the_password_is_not_shown(
        self, screen: Callable[..., Screen], daemon: Any, folder: Path
    ) -> None:
        """It is sent to the daemon, and kept for its owner alone."""
        shown = screen("login", "registry.test:5000")
        shown.read_until(lambda: b"Username: " in shown.raw)
        shown.type("jo\n")
        shown.read_until(lambda: b"Password: " in shown.raw)
        assert not shown.echoes()
        shown.type("open sesame\n")
        assert shown.finish() == 0
        assert b"open sesame" not in shown.raw
        assert shown.raw.endswith(b"Login Succeeded\r\n")
        (asked,) = [one.json() for one in daemon.requests if one.path == "/auth"]
        assert (asked["username"], asked["password"]) == ("jo", "open sesame")
        file = folder / "config.json"
        kept = json.loads(file.read_text())["auths"]["registry.test:5000"]["auth"]
        assert base64.b64decode(kept) == b"jo:open sesame"
        assert file.stat().st_mode & 0o777 == 0o600

    def test_only_what_is_missing_is_asked(
        self, screen: Callable[..., Screen], daemon: Any
    ) -> None:
        """A name that was given is not."""
        shown = screen("login", "-u", "jo", "registry.test")
        shown.read_until(lambda: b"Password: " in shown.raw)
        shown.type("x\n")
        assert shown.finish() == 0
        assert b"Username" not in shown.raw
        (asked,) = [one.json() for one in daemon.requests if one.path == "/auth"]
        assert asked["username"] == "jo"

    @pytest.mark.parametrize("key", ["\x03", "\x04"])
    @pytest.mark.parametrize("prompt", ["Username: ", "Password: "])
    def test_it_can_be_given_up(
        self, screen: Callable[..., Screen], daemon: Any, key: str, prompt: str
    ) -> None:
        """By Ctrl-C or an end of input, in one line; the terminal shows keys again."""
        shown = screen("login", "registry.test")
        shown.read_until(lambda: b"Username: " in shown.raw)
        if prompt == "Password: ":
            shown.type("jo\n")
            shown.read_until(lambda: b"Password: " in shown.raw)
        while shown.running.poll() is None:
            # One that arrives between the prompt and the read after it is only noted by Python.
            shown.type(key)
            with contextlib.suppress(subprocess.TimeoutExpired):
                shown.running.wait(0.3)
        assert shown.finish() == (130 if key == "\x03" else 1)
        assert b"Traceback" not in shown.raw
        assert not any(one.path == "/auth" for one in daemon.requests)

    def test_elsewhere_it_is_refused(self, cli: Callable[..., Any], daemon: Any) -> None:
        """With the way to do it without a terminal."""
        done = cli("login", "registry.test")
        assert done.status == 1
        assert "cannot perform an interactive login from a non TTY device" in done.err
        assert "--password-stdin" in done.err
        assert not daemon.asked()
