"""What a command imports is what its user waits for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "asyncio",
    "http.client",
    "aiohttp",
    "sqlite3",
    "pluggy",
    "pyroute2",
    "click",
    "pathlib",
    "dataclasses",
    "inspect",
    "urllib.parse",
    "ctypes",
    "tomllib",
    "typing",
    "base64",
    "shutil",
    "tarfile",
    "pannier.engine",
    "pannier.server",
    "pannier.images",
    "pannier.linux",
    "pannier.plugins",
    "pannier.config",
)
PROGRAM = """
import os, sys
from pannier.cli.__main__ import run
status = run(sys.argv[1:])
sys.stdout.flush()
heavy = [name for name in {heavy!r} if name in sys.modules and name not in before]
os.write(2, ("HEAVY:" + ",".join(heavy)).encode())
os._exit(status)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["version", "--client"],
        ["--host", "/nonexistent/s", "run", "-d", "-e", "A=1", "busybox"],
        ["--host", "/nonexistent/s", "build", "-f", __file__, str(Path(__file__).parent)],
    ],
    ids=["version", "run", "build"],
)
def test_commands_import_little(words: list[str]) -> None:
    """They import no engine, no HTTP library, not even click or tarfile."""
    program = "import sys; before = set(sys.modules)\n" + PROGRAM.format(heavy=HEAVY)
    # -S: what the environment's own start-up files import is not ours.
    path = ":".join(one for one in sys.path if one)
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *words],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.rpartition("HEAVY:")[1:] == ("HEAVY:", "")
