"""Text tables as the docker client prints them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["align", "ellipsis", "table"]

_PADDING = 3
_MINIMUM = 10


def align(rows: Iterable[Sequence[str]], *, minimum: int = _MINIMUM) -> list[str]:
    """Return the rows as lines: columns as wide as their widest cell and three spaces.

    The last cell of a row is not padded. A cell with a line break or a terminal's control
    character has it replaced: a name from elsewhere must not redraw the user's terminal.
    """
    cells = [[_tame(cell) for cell in row] for row in rows]
    count = max((len(row) for row in cells), default=0)
    widths = [
        max([minimum, *(len(row[i]) + _PADDING for row in cells if i < len(row) - 1)])
        for i in range(count)
    ]
    return [
        "".join(cell if i == len(row) - 1 else cell.ljust(widths[i]) for i, cell in enumerate(row))
        for row in cells
    ]


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, minimum: int = _MINIMUM
) -> list[str]:
    """Return a table's lines, headers first."""
    return align([headers, *rows], minimum=minimum)


def _tame(cell: str) -> str:
    if cell.isprintable():
        return cell
    return "".join(one if one.isprintable() else "?" for one in cell)


def ellipsis(text: str, width: int) -> str:
    """Return a text cut to ``width`` characters, the last of which then is an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"
