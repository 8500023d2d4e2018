"""What other processes see of a process that has changed its command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from pannier.linux import title
if sys.argv[1] == "old kernel":
    def refused(*_):
        raise OSError(22, "no such thing")
    title._map = refused
title.set_title([b"/sbin/other", b"--", b"x" * 3000], [b"A=1", b"B=" + b"y" * 3000])
print("done", flush=True)
sys.stdin.read()
"""


def _seen(kernel: str) -> tuple[bytes, bytes]:
    with subprocess.Popen(
        [sys.executable, "-c", CODE, kernel], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        folder = Path(f"/proc/{process.pid}")
        found = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        process.stdin.close()
        assert process.wait(60) == 0
    return found


def test_a_whole_command_line() -> None:
    """However long it and the environment are; the process goes on as before."""
    words, environment = _seen("this kernel")
    if not environment.startswith(b"A=1"):
        pytest.skip("needs a kernel with CONFIG_CHECKPOINT_RESTORE")
    assert words == b"/sbin/other\0--\0" + b"x" * 3000 + b"\0"
    assert environment == b"A=1\0B=" + b"y" * 3000 + b"\0"


def test_a_kernel_that_does_not_take_it() -> None:
    """What fits in the place of the old one is shown, and nothing else of what was there."""
    words, environment = _seen("old kernel")
    assert words.startswith(b"/sbin/other\0--\0xxx")
    assert b"python" not in words
    assert environment.strip(b"\0") == b""
