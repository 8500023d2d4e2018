"""A process on its way into a container."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from pannier.runtimes.launch import import_nothing_more
import_nothing_more()
try:
    import wave
except ImportError:
    print("nothing")
"""


def test_nothing_is_imported_inside() -> None:
    """A module that a hostile image has where Python looks for its own is not found."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "nothing\n"
