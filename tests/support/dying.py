"""A daemon that kills itself at a chosen place of its code, which no timer could hit for certain.

What does it is a plugin, installed as strangers' are: it has no hooks, and replaces functions when
it is loaded.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from support.daemon import Daemon, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest

__all__ = ["Dying", "dying_daemon"]

_CODE = """
import functools, importlib, inspect, os, signal
from pathlib import Path

ARMED = Path(__file__).with_name("armed")

def prepare(place):
    module, _, name = place.partition(":")
    owner, _, name = name.rpartition(".")
    there = getattr(importlib.import_module(module), owner)
    function = getattr(there, name)

    @functools.wraps(function)
    def dying(*args, **kwargs):
        place_armed, _, calls = ARMED.read_text().partition(" ") if ARMED.exists() else ("", "", "")
        if place_armed == place:
            if int(calls) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            ARMED.write_text(f"{place} {int(calls) - 1}")
        return function(*args, **kwargs)

    static = isinstance(inspect.getattr_static(there, name), staticmethod)
    setattr(there, name, staticmethod(dying) if static else dying)

for place in PLACES:
    prepare(place)
"""


class Dying:
    """Has daemons that are started from now on be ready to die.

    :param folder: an empty one.
    :param places: methods, each as ``module:Class.method``.
    """

    def __init__(
        self, folder: Path, places: Sequence[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "dying.py").write_text(f"PLACES = {list(places)!r}\n{_CODE}")
        metadata = folder / "dying-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dying\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text("[pannier]\ndying = dying\n")
        monkeypatch.setenv("PYTHONPATH", str(folder))
        self._armed = folder / "armed"

    def arm(self, place: str, calls: int = 0) -> None:
        """Have the daemon die when the method is called the next time, after so many more calls."""
        self._armed.write_text(f"{place} {calls}")

    def disarm(self) -> None:
        """Let it live. Idempotent."""
        self._armed.unlink(missing_ok=True)


@contextlib.contextmanager
def dying_daemon(
    folder: Path, places: Sequence[str], image: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Daemon, Dying]]:
    """Run a daemon with an image, and give what kills it; nothing of it may be left in the end."""
    found = Dying(folder, places, monkeypatch)
    daemon = Daemon()
    try:
        daemon.start()
        daemon.cli("load", "-i", str(image))
        yield daemon, found
    finally:
        found.disarm()
        daemon.close()
    assert leftovers(daemon) == []
