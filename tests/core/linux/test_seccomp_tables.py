"""The tables of system calls say what this machine's kernel headers say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(
    shutil.which("cpp") is None or not Path("/usr/include/asm-generic/unistd.h").exists(),
    reason="needs the kernel's headers and a preprocessor: apt-get install linux-libc-dev cpp",
)
def test_the_tables_agree_with_the_headers() -> None:
    """The generator finds no contradiction with the headers that are installed here."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools/generate_syscall_tables.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
