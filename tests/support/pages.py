"""The documentation's pages as tests read them: their blocks of code, and what is said of each.

A comment right above a block of commands may say that another test runs it, or why none can::

    <!-- run by tests/newcomer -->
    <!-- not run: it takes a second host -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMMANDS", "PAGES", "ROOT", "Block", "blocks"]

ROOT = Path(__file__).parents[2]

PAGES = [
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("examples/*/README.md")),
    )
]
"""Every page, by its path in the repository."""

COMMANDS = ("sh", "console")
"""The languages of commands: as they are typed, and as a terminal shows them with its answers."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<verb>run by|not run:) (?P<said>[^>]+) -->\n)?"
    r"^(?P<fence>```+)(?P<language>.*)\n(?P<text>(?:.*\n)*?)^(?P=fence)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    :param line: where it begins.
    :param run_by: the test that runs it, as the page says; empty where it says nothing.
    :param unrun: why it is not run, likewise.
    """

    page: str
    line: int
    language: str
    text: str
    run_by: str = ""
    unrun: str = ""

    @property
    def commands(self) -> list[str]:
        """What is typed: each command, with all lines that it goes on over."""
        lines = self.text if self.language == "sh" else _typed(self.text)
        return [command for command in re.split(r"(?<!\\)\n", lines) if command]

    @property
    def headings(self) -> list[str]:
        """The headings of the tables that the terminal shows."""
        lines = self.text.splitlines() if self.language == "console" else []
        return [line for line in lines if line.isupper()]


def _typed(shown: str) -> str:
    lines, goes_on = [], False
    for line in shown.splitlines():
        if goes_on or line.startswith("$ "):
            lines.append(line if goes_on else line[2:])
            goes_on = line.endswith("\\")
    return "\n".join(lines)


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("fence")) + 1,
            match["language"],
            match["text"],
            run_by=match["said"] if match["verb"] == "run by" else "",
            unrun=match["said"] if match["verb"] == "not run:" else "",
        )
        for match in _BLOCK.finditer(text)
    ]
