"""This process's terminal: raw mode, its size, and putting it back as it was."""

from __future__ import annotations

import os

from pannier.cli.command import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT_DETACH_KEYS", "KeyWatch", "RawTerminal", "parse_keys", "require_tty", "size"]

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROLS = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def size(descriptor: int = 1) -> tuple[int, int] | None:
    """Return the terminal's rows and columns; None where there is none."""
    for one in (descriptor, 0, 2):
        try:
            found = os.get_terminal_size(one)
        except OSError:
            continue
        if found.lines and found.columns:
            return found.lines, found.columns
    return None


def require_tty(*, interactive: bool, tty: bool) -> None:
    """Refuse ``-it`` whose input is no terminal: raw mode has nothing to be set on.

    :raises UsageError: where that is so.
    """
    if interactive and tty and not os.isatty(0):
        raise UsageError(
            "the input device is not a TTY", code=1, hint="leave -t out to send it through a pipe"
        )


class RawTerminal:
    """A context in which the terminal on stdin hands every key on; restored at any exit."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted and os.isatty(0)
        self._saved: list[Any] | None = None

    def __enter__(self) -> None:
        if not self._wanted:
            return
        import termios
        import tty

        self._saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)

    def __exit__(self, *_: object) -> None:
        if self._saved is None:
            return
        import termios

        saved, self._saved = self._saved, None
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


def parse_keys(text: str) -> bytes:
    """Return the bytes of a key sequence such as ``ctrl-p,ctrl-q`` or ``a,ctrl-]``.

    :raises UsageError: where a part is no key.
    """
    found = bytearray()
    for part in text.split(","):
        if len(part) == 1 and part.isascii():
            found += part.encode()
        elif part.startswith("ctrl-") and len(part) == 6 and part[5] in _CONTROLS:
            found.append(_CONTROLS.index(part[5]))
        elif part == "DEL":
            found.append(127)
        else:
            raise UsageError(
                f"invalid detach keys: unknown character {part!r}",
                hint="write a letter or ctrl- with a-z @ [ \\ ] ^ _, separated by commas",
            )
    return bytes(found)


class KeyWatch:
    """Notes whether a key sequence went by.

    The daemon acts on it; this tells a stream that ended because of it from a process that ended.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._tail = b""
        self.seen = False

    def feed(self, data: bytes) -> None:
        """Look at what is sent."""
        window = self._tail + data
        self.seen = self.seen or self._keys in window
        self._tail = window[-(len(self._keys) - 1) :] if len(self._keys) > 1 else b""
