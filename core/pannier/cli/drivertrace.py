"""``drivers --trace``: the calls of plugins' code while they were loaded, with their times."""

from __future__ import annotations

import json

from pannier.cli.tables import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Call = dict[str, Any]

__all__ = ["json_lines", "table"]

_TOGETHER = ("import", "hook", "probe", "open")


def json_lines(calls: list[Call]) -> list[str]:
    """Return one object for each call, in order; times in nanoseconds, on CLOCK_MONOTONIC."""
    return [json.dumps(call) for call in calls]


def table(calls: list[Call]) -> list[str]:
    """Return a table of the calls, in order, and a line with their sums."""
    rows = [["PLUGIN", "CALL", "DRIVER", "TIME", "ERROR"]]
    sums = dict.fromkeys(_TOGETHER, 0)
    for call in calls:
        taken = call["EndNs"] - call["BeginNs"]
        kind = call["Call"] if call["Call"] in sums else "hook"
        sums[kind] += taken
        driver = f"{call['Kind']} {call['Id']}".strip()
        rows.append([call["Plugin"], call["Call"], driver, _milliseconds(taken), call["Error"]])
    parts = ", ".join(f"{kind} {_milliseconds(taken)}" for kind, taken in sums.items())
    lines = [line.rstrip() for line in align(rows, minimum=0)]
    return [*lines, f"{len(calls)} calls in {_milliseconds(sum(sums.values()))}: {parts}"]


def _milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"
