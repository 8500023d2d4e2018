"""Shows the daemon's progress messages: one line a layer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys

from pannier.cli.units import human_size
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pannier.cli.context import Context

__all__ = ["pull_image", "show_progress"]

_BAR = 50


def show_progress(messages: Iterable[dict[str, Any]], *, quiet: bool = False, out: int = 1) -> None:
    """Print progress messages as they come.

    :param quiet: print only what is not progress of a part.
    :param out: 1 for stdout, 2 for stderr.
    :raises PannierError: for the error that the stream ends with.
    """
    stream = sys.stderr if out == 2 else sys.stdout
    live = os.isatty(out)
    lines: dict[str, int] = {}
    for message in messages:
        if message.get("error") or message.get("errorDetail"):
            detail = message.get("errorDetail") or {}
            raise PannierError(str(detail.get("message") or message["error"]))
        if "stream" in message:
            stream.write(message["stream"])
            stream.flush()
            continue
        identifier, status = message.get("id", ""), message.get("status", "")
        if not status or (quiet and identifier):
            continue
        if not live:
            if not message.get("progressDetail"):
                stream.write(f"{identifier}: {status}\n" if identifier else f"{status}\n")
                stream.flush()
            continue
        _live(stream, lines, identifier, status, message)
        stream.flush()


def _live(
    stream: Any, lines: dict[str, int], identifier: str, status: str, message: dict[str, Any]
) -> None:
    """Rewrite an identifier's own line, further up."""
    if not identifier:
        lines.clear()
        stream.write(f"{status}\n")
        return
    if identifier not in lines:
        lines[identifier] = len(lines)
        stream.write("\n")
    up = len(lines) - lines[identifier]
    text = f"{identifier}: {status} {_bar(message.get('progressDetail') or {})}".rstrip()
    stream.write(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")


def _bar(detail: dict[str, Any]) -> str:
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0:
        return ""
    if total <= 0:
        return human_size(current)
    filled = min(int(current / total * _BAR), _BAR)
    bar = "=" * filled + ">" if filled < _BAR else "=" * _BAR
    return f"[{bar:<{_BAR}}] {human_size(current):>8}/{human_size(total)}"


def pull_image(ctx: Context, image: str, platform: str, *, quiet: bool, out: int = 1) -> None:
    """Ask the daemon for an image and show its progress.

    :raises PannierError: where it cannot be had.
    """
    from pannier.cli.commands.images import split_reference

    name, tag = (image, "") if "@" in image else split_reference(image)
    query = {"fromImage": name, "tag": tag or None, "platform": platform or None}
    if not tag:
        query["tag"] = None if "@" in image else "latest"
    answer = ctx.client.request("POST", "/images/create", query=query)
    if quiet:
        for message in answer.objects():
            if message.get("error"):
                raise PannierError(str(message["error"]))
        return
    show_progress(answer.objects(), out=out)
