"""``run --explain``: what would be done, by which driver."""

from __future__ import annotations

import json

from pannier.cli.units import short_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["explain", "plan_lines"]
#: How wide the columns of actions and subjects may become for one long entry.
_WIDEST = (30, 64)


def explain(ctx: Context, values: Values, body: dict[str, Any]) -> int:
    """Ask the daemon for the plan of a create body and print it; nothing is done."""
    query = {"name": values.text("name") or None, "platform": values.text("platform") or None}
    steps = ctx.client.post("/pannier/explain", query, body)["Steps"]
    format = values.text("format")
    if format == "json":
        ctx.out(json.dumps({"Steps": steps}, indent=2, ensure_ascii=False))
    elif format:
        from pannier.cli.template import Template

        template = Template(format.replace("\\t", "\t").replace("\\n", "\n"))
        for step in steps:
            ctx.out(template.render(step))
    else:
        for line in plan_lines(steps):
            ctx.out(line)
    return 0


def plan_lines(steps: list[dict[str, Any]]) -> list[str]:
    """Return the plan as lines: the steps in their order, under the driver that asks for each.

    A driver that asks at several moments has several groups: the order is part of the plan.
    """
    rows = _rows(steps)
    lines: list[str] = []
    previous = None
    for step, row in zip(steps, rows, strict=True):
        title = _title(step)
        if title != previous:
            lines += [""] if lines else []
            lines.append(title)
            previous = title
        lines.append(f"  {row}".rstrip())
    count = len(steps)
    lines += ["", f"{count} step{'' if count == 1 else 's'}; nothing was done"]
    return lines


def _rows(steps: list[dict[str, Any]]) -> list[str]:
    """Return the steps in columns; what is longer than its column pushes only its own line."""
    cells = [
        [short_ids(str(step.get(name) or "")) for name in ("Action", "Subject", "Detail")]
        for step in steps
    ]
    widths = [
        max((len(row[i]) for row in cells if len(row[i]) <= limit), default=0)
        for i, limit in enumerate(_WIDEST)
    ]
    return [
        f"{number:>3}  {action:<{widths[0]}}  {subject:<{widths[1]}}  {detail}".rstrip()
        for number, (action, subject, detail) in enumerate(cells, 1)
    ]


def _title(step: dict[str, Any]) -> str:
    driver, kind = str(step.get("Driver") or "engine"), str(step.get("Kind") or "")
    return f"{driver} ({kind})" if kind and kind != driver else driver
