"""Exit statuses: what a failure to start a process means to a shell."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.errors import PannierError

__all__ = ["start_status"]

_NOT_FOUND = ("executable file not found", "no such file or directory", "not found in $path")
_NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error", "not executable")


def start_status(error: PannierError) -> int:
    """Return 127 for a command that is not there, 126 for one that cannot run, 125 otherwise."""
    message = str(error).lower()
    if any(one in message for one in _NOT_FOUND):
        return 127
    if any(one in message for one in _NOT_EXECUTABLE):
        return 126
    return 125
