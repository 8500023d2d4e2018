"""``run --trace``: what was done to start a container, with times."""

from __future__ import annotations

import json

from pannier.cli.creating import container_path
from pannier.cli.files import write_output
from pannier.cli.tables import align
from pannier.cli.units import short_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.context import Context
    from pannier.client import Client

    Event = dict[str, Any]

__all__ = ["fetch_trace", "report_trace", "trace_json", "waterfall"]

_WIDTH = 40


def fetch_trace(client: Client, identifier: str) -> list[Event]:
    """Return the events of a container's start.

    :raises APIError: where the daemon keeps none.
    """
    path = f"/pannier{container_path(identifier)}/trace"
    found: list[Event] = client.get(path)["Events"]
    return found


def report_trace(ctx: Context, path: str, events: list[Event]) -> None:
    """Print the waterfall to stderr, or write the events to a file."""
    if path:
        write_output(path, [trace_json(events).encode()])
        ctx.err(f"trace of {len(events)} operations written to {path}")
        return
    for line in waterfall(events):
        ctx.err(line)


def waterfall(events: list[Event]) -> list[str]:
    """Return a table of the operations, each with a bar that shows when it ran."""
    if not events:
        return ["no operations were traced"]
    ordered = sorted(events, key=lambda one: (one["BeginNs"], -one["EndNs"]))
    begin = ordered[0]["BeginNs"]
    span = max(max(one["EndNs"] for one in ordered) - begin, 1)
    rows = [["START", "TIME", "", "DRIVER", "OPERATION"]]
    for one in ordered:
        start, length = one["BeginNs"] - begin, max(one["EndNs"] - one["BeginNs"], 0)
        words = [str(one.get(name) or "") for name in ("Action", "Subject", "Detail")]
        rows.append(
            [
                _milliseconds(start),
                _milliseconds(length),
                _bar(start / span, length / span),
                str(one.get("Driver") or "engine"),
                short_ids(" ".join(word for word in words if word)),
            ]
        )
    lines = align(rows, minimum=0)
    return [*lines, f"{len(ordered)} operations in {_milliseconds(span)}"]


def _milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"


def _bar(start: float, length: float) -> str:
    before = min(int(start * _WIDTH), _WIDTH - 1)
    filled = min(max(round(length * _WIDTH), 1), _WIDTH - before)
    return "|" + " " * before + "#" * filled + " " * (_WIDTH - before - filled) + "|"


def trace_json(events: list[Event]) -> str:
    """Return the events in the Trace Event format, which Perfetto opens; times in microseconds.

    Source: "Trace Event Format", complete events (``ph: X``) and thread names (``ph: M``). Each
    driver is shown as a thread of its own.
    """
    drivers = list(dict.fromkeys(str(one.get("Driver") or "engine") for one in events))
    begin = min((one["BeginNs"] for one in events), default=0)
    names = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": driver}}
        for tid, driver in enumerate(drivers, 1)
    ]
    spans = [
        {
            "ph": "X",
            "name": f"{one.get('Action', '')} {one.get('Subject', '')}".strip(),
            "cat": str(one.get("Driver") or "engine"),
            "pid": 1,
            "tid": drivers.index(str(one.get("Driver") or "engine")) + 1,
            "ts": (one["BeginNs"] - begin) / 1000,
            "dur": max(one["EndNs"] - one["BeginNs"], 0) / 1000,
            "args": {"detail": one.get("Detail", "")},
        }
        for one in events
    ]
    return json.dumps({"traceEvents": [*names, *spans], "displayTimeUnit": "ms"}) + "\n"
