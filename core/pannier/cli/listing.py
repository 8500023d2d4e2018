"""Prints rows as ``--format`` asks: a table, a template for each row, or JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pannier.cli.context import Context

    Row = Mapping[str, Any]

__all__ = ["map_label", "print_rows", "row_lines"]


def print_rows(
    ctx: Context,
    rows: Iterable[Row],
    *,
    format: str,
    headers: Mapping[str, str],
    columns: Sequence[str],
    minimum: int = 10,
) -> None:
    """Print rows, as :func:`row_lines` writes them."""
    lines = row_lines(rows, format=format, headers=headers, columns=columns, minimum=minimum)
    for line in lines:
        ctx.out(line)


def row_lines(
    rows: Iterable[Row],
    *,
    format: str,
    headers: Mapping[str, str],
    columns: Sequence[str],
    minimum: int = 10,
) -> list[str]:
    """Return what rows are printed as.

    :param format: empty or ``table``: the default table; ``table TEMPLATE``: a table of the
        template's cells, separated by tabs; ``json``: an object a line; otherwise a template for
        each row.
    :param headers: every field's column title.
    :param columns: the fields of the default table.
    :raises TemplateError: where the template does not fit.
    """
    from pannier.cli.tables import align

    if format in ("", "table"):
        cells = [[str(row[name]) for name in columns] for row in rows]
        return list(align([[headers[name] for name in columns], *cells], minimum=minimum))
    if format == "json":
        format = "{{json .}}"
    from pannier.cli.template import Template

    source = format.replace("\\t", "\t").replace("\\n", "\n")
    wants_table = source.startswith("table ")
    template = Template(source.removeprefix("table ").lstrip() if wants_table else source)
    rendered = [template.render(_sorted(row)) for row in rows]
    if not wants_table:
        return rendered
    titles: dict[str, Any] = dict(headers)
    titles["Label"] = _title
    return list(align([one.split("\t") for one in [template.render(titles), *rendered]]))


def _sorted(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in sorted(row)}


def _title(name: str) -> str:
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def map_label(labels: Mapping[str, str] | None) -> Any:
    """Return the function behind ``{{.Label "key"}}``."""
    return lambda key: (labels or {}).get(key, "")
