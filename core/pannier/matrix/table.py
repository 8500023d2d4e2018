"""The matrix as a table or as JSON: rows are drivers, columns kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.matrix.cells import Outcome

__all__ = ["as_json", "render"]

_WIDEST = 60


def render(outcomes: Sequence[Outcome]) -> str:
    """Return the table, and below it what kept a kernel from having a result."""
    drivers = sorted({driver for outcome in outcomes for driver in outcome.rows})
    lines = [
        ["DRIVER", *(outcome.cell.name for outcome in outcomes)],
        *([driver, *(_cell(outcome, driver) for outcome in outcomes)] for driver in drivers),
        ["exit status", *(_status(outcome) for outcome in outcomes)],
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text += [f"\n{one.cell.name}: {one.failure}" for one in outcomes if one.failure]
    return "\n".join(text) + "\n"


def _cell(outcome: Outcome, driver: str) -> str:
    tally = outcome.rows.get(driver)
    text = "-" if tally is None else str(tally)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _status(outcome: Outcome) -> str:
    return "none" if outcome.status is None else str(outcome.status)


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the same for machines, one object a kernel."""
    return [
        {
            "Kernel": outcome.cell.kernel,
            "Groups": str(outcome.cell.groups),
            "Status": outcome.status,
            "Failure": outcome.failure,
            "Drivers": {
                driver: {
                    "Passed": tally.passed,
                    "Failed": tally.failed,
                    "NotApplicable": dict(tally.reasons),
                }
                for driver, tally in outcome.rows.items()
            },
        }
        for outcome in outcomes
    ]
