"""Tables are laid out as the docker client lays them out."""

from __future__ import annotations

from pannier.cli.tables import ellipsis, table


def test_columns_are_padded_by_three_and_ten_wide_at_least() -> None:
    """A short column is ten wide; the last one is not padded."""
    assert table(("ID", "IMAGE", "NAMES"), [["0123456789ab", "x", "web"]]) == [
        "ID             IMAGE     NAMES",
        "0123456789ab   x         web",
    ]


def test_a_cell_cannot_redraw_the_terminal() -> None:
    """Control characters in what others named are replaced."""
    assert table(("A",), [["\x1b[2Jx\ny"]]) == ["A", "?[2Jx?y"]


def test_a_table_without_rows_is_its_header() -> None:
    """Nothing listed still says what would be."""
    assert table(("A", "B"), []) == ["A         B"]


def test_ellipsis_counts_characters() -> None:
    """The cut text is exactly as wide as asked."""
    assert ellipsis("abcdef", 4) == "abc…"
    assert ellipsis("abcd", 4) == "abcd"
