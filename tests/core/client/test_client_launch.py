"""A daemon is started in the background where none answers."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from pannier.bounded import LOADING
from pannier.client import ConnectionFailed, launch
from pannier.client.launch import start_daemon

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
    import os, socket, sys
    assert sys.argv[1:3] == ["-m", "pannier.daemon"], sys.argv
    assert "--background" in sys.argv
    assert os.getsid(0) == os.getpid()
    print("started", sys.argv[-1], flush=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()
    listener.accept()
"""
BAD = """
    import sys
    print("first line")
    sys.exit("the reason")
"""


def _interpreter(folder: Path, body: str, socket_path: Path) -> str:
    """Write a program that stands in for the interpreter that runs the daemon."""
    program = folder / "python"
    code = textwrap.dedent(body).replace("SOCKET", repr(str(socket_path)))
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o755)
    return str(program)


def test_a_started_daemon_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call returns once the socket answers; the daemon leads a session of its own."""
    path = tmp_path / "state" / "s.sock"
    monkeypatch.setattr(sys, "executable", _interpreter(tmp_path, GOOD, path))
    start_daemon(str(path), ["--config", "file"])
    assert (path.parent / "daemon.log").read_text() == "started file\n"


def test_a_failed_daemon_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends with an error is not waited for, and its last lines are shown."""
    path = tmp_path / "s.sock"
    monkeypatch.setattr(sys, "executable", _interpreter(tmp_path, BAD, path))
    with pytest.raises(ConnectionFailed, match=r"first line \| the reason") as caught:
        start_daemon(str(path), [])
    assert "pannier daemon" in str(caught.value.hint)


def test_a_daemon_that_lives_is_waited_for_longer_than_a_plugin_may_take() -> None:
    """One plugin that hangs in being imported does not make the command line give up."""
    assert launch._PATIENCE >= 10 * LOADING


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A state folder under a file is a clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionFailed, match="file"):
        start_daemon(str(tmp_path / "file" / "s.sock"), [])
