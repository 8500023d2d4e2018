"""Shows the daemon's progress messages: one line a layer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys

from pannier.cli.units import human_size
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

    from pannier.cli.context import Context

__all__ = ["pull_image", "show_progress"]

_BAR = 50
_LEAST_BAR = 8


def show_progress(
    messages: Iterable[dict[str, Any]], *, quiet: bool = False, silent: bool = False, out: int = 1
) -> None:
    """Print progress messages as they come.

    :param quiet: print only what is not progress of a part.
    :param silent: print nothing.
    :param out: 1 for stdout, 2 for stderr.
    :raises PannierError: for the error that the stream ends with.
    """
    stream = sys.stderr if out == 2 else sys.stdout
    live = _Lines(stream, out) if os.isatty(out) else None
    for message in messages:
        if message.get("error") or message.get("errorDetail"):
            detail = message.get("errorDetail") or {}
            text = str(detail.get("message") or message["error"])
            raise PannierError(text, hint=message.get("hint"))
        if silent:
            continue
        if "stream" in message:
            stream.write(message["stream"])
            stream.flush()
            continue
        identifier, status = message.get("id", ""), message.get("status", "")
        if not status or (quiet and identifier):
            continue
        if live is not None:
            live.show(identifier, status, message.get("progressDetail") or {})
        elif not message.get("progressDetail"):
            stream.write(f"{identifier}: {status}\n" if identifier else f"{status}\n")
        stream.flush()


class _Lines:
    """The layers' lines on a terminal, each rewritten where it stands."""

    def __init__(self, stream: TextIO, out: int) -> None:
        self._stream = stream
        self._lines: dict[str, int] = {}
        try:
            self._columns, self._rows = os.get_terminal_size(out)
        except OSError:
            self._columns, self._rows = 0, 0
        self._columns = self._columns or 80
        self._rows = self._rows or 24

    def show(self, identifier: str, status: str, detail: dict[str, Any]) -> None:
        """Show what happens to one layer; without an identifier, a line for itself."""
        if not identifier:
            self._lines.clear()
            self._stream.write(f"{status}\n")
            return
        if identifier not in self._lines:
            self._lines[identifier] = len(self._lines)
            self._stream.write("\n")
        up = len(self._lines) - self._lines[identifier]
        if up >= self._rows:
            return  # has left the screen, where nothing can be rewritten
        head = f"{identifier}: {status} "
        text = (head + _bar(detail, self._columns - len(head))).rstrip()[: self._columns - 1]
        self._stream.write(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")


def _bar(detail: dict[str, Any], room: int) -> str:
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0:
        return ""
    if total <= 0:
        return human_size(current)
    count = f"{human_size(current):>8}/{human_size(total)}"
    width = min(_BAR, room - len(count) - 4)
    if width < _LEAST_BAR:
        return count
    filled = min(int(current / total * width), width)
    bar = "=" * filled + ">" if filled < width else "=" * width
    return f"[{bar:<{width}}] {count}"


def pull_image(
    ctx: Context, image: str, platform: str, *, quiet: bool, every: bool = False, out: int = 1
) -> None:
    """Ask the daemon for an image, in the user's name, and show its progress.

    :param every: all tags of the repository that *image* is.
    :raises PannierError: where it cannot be had.
    """
    from pannier.cli.credentials import auth_header
    from pannier.cli.references import split_reference

    name, tag = image, None
    if "@" in image:
        name, _, tag = image.partition("@")
        name = split_reference(name)[0]
    elif not every:
        name, tag = split_reference(image)
        tag = tag or "latest"
    query = {"fromImage": name, "tag": tag, "platform": platform or None}
    headers = auth_header(image)
    answer = ctx.client.request("POST", "/images/create", query=query, headers=headers)
    show_progress(answer.objects(), silent=quiet, out=out)
