"""Shows a build: as a tree on a terminal, as Docker's plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import time

from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

__all__ = ["BuildError", "show_build"]

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_ID = re.compile(r" ---> [0-9a-f]{12}")
_DIM, _RED, _GREEN, _BOLD, _END = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"


class BuildError(PannierError):
    """The build failed.

    :param code: the exit status of the command that failed; 0 where none did.
    """

    def __init__(self, message: str, code: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def show_build(messages: Iterable[dict[str, Any]], *, style: str, out: TextIO) -> str:
    """Show a build's messages as they come; return the id of the image.

    :param style: ``tree``, ``plain`` or ``quiet``.
    :raises BuildError: it failed.
    """
    views = {"tree": _Tree, "plain": _Plain, "quiet": _Quiet}
    view = views[style](out)
    image = ""
    for message in messages:
        if message.get("error") or message.get("errorDetail"):
            detail = message.get("errorDetail") or {}
            view.failed()
            raise BuildError(
                str(detail.get("message") or message["error"]),
                int(detail.get("code") or 0),
                hint=message.get("hint"),
            )
        aux = message.get("aux")
        if isinstance(aux, dict) and "ID" in aux:
            image = str(aux["ID"])
        elif "stream" in message:
            text = str(message["stream"])
            if style == "tree" or not out.isatty():
                # The builder marks what a command wrote to stderr in red.
                text = text.removeprefix("\x1b[91m").removesuffix(_END)
            if style == "quiet" and re.fullmatch(r"sha256:[0-9a-f]{64}\n", text):
                image = text.strip()
            view.text(text)
        elif message.get("status"):
            name = message.get("id")
            view.text(f"{name}: {message['status']}\n" if name else f"{message['status']}\n")
    view.done()
    return image


class _Plain:
    """Docker's own lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def text(self, text: str) -> None:
        """Show what the stream has."""
        self._out.write(text)
        self._out.flush()

    def failed(self) -> None:
        """Show that the step under way failed."""

    def done(self) -> None:
        """End the view."""


class _Quiet(_Plain):
    """Nothing, unless the build fails; then what it said."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._said: list[str] = []

    def text(self, text: str) -> None:
        """Keep it."""
        self._said.append(text)

    def failed(self) -> None:
        """Show what was kept."""
        sys.stderr.write("".join(self._said))


class _Tree(_Plain):
    """Stages as roots, steps as branches with what they took, output below its step."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._begin = 0.0
        self._line = ""
        self._moved = False
        self._cached = False
        self._rest = ""

    def text(self, text: str) -> None:
        """Show a step, or what a step wrote."""
        match = _STEP.fullmatch(text.rstrip("\n"))
        if match is not None:
            self._finish()
            self._start(int(match[1]), int(match[2]), match[3])
        elif text.startswith(" ---> Using cache"):
            self._cached = True
        elif _ID.fullmatch(text.rstrip("\n")):
            self._finish()
        elif text.startswith((" ---> Running in ", "Removing intermediate container ")):
            return
        elif text.startswith(("Successfully ", "[Warning]", "# Executing")):
            self._finish()
            self._out.write(text)
        else:
            self._output(text)
        self._out.flush()

    def _start(self, number: int, total: int, original: str) -> None:
        first = " ".join(original.split())
        shown = first if len(first) <= 90 else first[:89] + "…"
        digits = len(str(total))
        root = original.upper().startswith("FROM ")
        self._line = f"{_BOLD}● {shown}{_END}" if root else f"├─ {number:{digits}}/{total} {shown}"
        self._begin = time.monotonic()
        self._moved = self._cached = False
        self._out.write(self._line)

    def _output(self, text: str) -> None:
        if self._line and not self._moved:
            self._out.write("\n")
            self._moved = True
        text = self._rest + text
        *lines, self._rest = text.split("\n")
        for line in lines:
            # A program that rewrites its line is shown as it was last.
            self._out.write(f"{_DIM}│    {line.rpartition(chr(13))[2]}{_END}\n")

    def _finish(self, mark: str = "") -> None:
        if not self._line:
            return
        if self._rest:
            self._output("\n")
        took = time.monotonic() - self._begin
        word = mark or ("cached" if self._cached else f"{took:.1f}s")
        colour = _RED if mark else _GREEN
        if self._moved:
            self._out.write(f"│  {colour}{word}{_END}\n")
        else:
            self._out.write(f"  {colour}{word}{_END}\n")
        self._line = ""

    def failed(self) -> None:
        """Mark the step under way."""
        self._finish("failed")

    def done(self) -> None:
        """End the last step's line."""
        self._finish()
