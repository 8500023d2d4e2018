"""``pannier events``."""

from __future__ import annotations

import sys
import time

from pannier.cli.command import Command, many, text
from pannier.cli.commands.logs import moment
from pannier.cli.readers import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["EVENTS", "event_line"]


def _events(ctx: Context, values: Values) -> int:
    query = {
        "since": moment(values.text("since")),
        "until": moment(values.text("until")),
        "filters": filters(values.many("filter")),
    }
    render: Callable[[dict[str, Any]], str] = event_line
    format = values.text("format")
    if format:
        from pannier.cli.template import Template

        render = Template("{{json .}}" if format == "json" else format).render
    for event in ctx.client.stream("/events", query):
        ctx.out(render(event))
        # Each event is wanted when it happens, also through a pipe.
        sys.stdout.flush()
    return 0


def event_line(event: dict[str, Any]) -> str:
    """Return an event as ``TIME TYPE ACTION ID (key=value, …)``."""
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 1_000_000_000
    seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{rest:09d}{zone}"
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    # An event of no one object has an empty id, and so two spaces, as docker prints it.
    words = [stamp, event.get("Type", ""), event.get("Action", ""), actor.get("ID", "")]
    if attributes:
        pairs = ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes))
        words.append(f"({pairs})")
    return " ".join(words)


EVENTS = Command(
    "events",
    "Get real time events from the server",
    _events,
    flags=[
        many("-f,--filter", "Filter output based on conditions provided", metavar="filter"),
        text("--format", "Format output using a Go template, or json"),
        text("--since", "Show all events created since timestamp"),
        text("--until", "Stream events until this timestamp"),
    ],
    example="pannier events --since 10m --until 0s --filter type=container",
)
