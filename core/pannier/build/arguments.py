"""The forms that an instruction's flags and arguments have, whichever instruction it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pannier.build.instructions import Command
from pannier.build.words import split_words
from pannier.errors import InvalidRequest
from pannier.images.words import name_values

if TYPE_CHECKING:
    from pannier.build.lexer import Statement

__all__ = [
    "Flags",
    "bad",
    "command_of",
    "json_list",
    "list_of",
    "pairs_of",
    "single",
]

_HINT: Final = "see https://docs.docker.com/reference/dockerfile/"


def bad(message: str, hint: str = _HINT) -> InvalidRequest:
    """Return what is raised for an instruction; the parser puts its line before it."""
    return InvalidRequest(message, hint=hint)


class Flags:
    """The flags of one instruction; each must be asked for."""

    def __init__(self, statement: Statement) -> None:
        self._keyword = statement.keyword
        self._values: dict[str, list[str | None]] = {}
        for flag in statement.flags:
            name, equals, value = flag[2:].partition("=")
            self._values.setdefault(name, []).append(value if equals else None)

    def text(self, name: str) -> str:
        """Return the value of a flag that may be given once; empty where it is not."""
        values = self.many(name)
        if len(values) > 1:
            raise bad(f"Duplicate flag specified: {name}")
        return values[0] if values else ""

    def many(self, name: str) -> list[str]:
        """Return the values of a flag that may be repeated."""
        found = []
        for value in self._values.pop(name, []):
            if value is None:
                raise bad(f"Missing a value on flag: {name}")
            found.append(value)
        return found

    def on(self, name: str) -> bool:
        """Return a switch: ``--link``, ``--link=true`` or ``--link=false``."""
        values = self._values.pop(name, [])
        if len(values) > 1:
            raise bad(f"Duplicate flag specified: {name}")
        if not values:
            return False
        if values[0] not in (None, "true", "false"):
            raise bad(f"Expecting boolean value for flag {name}, not: {(values[0] or '')[:50]}")
        return values[0] != "false"

    def done(self) -> None:
        """Refuse what nobody asked for."""
        for name in self._values:
            raise bad(f"Unknown flag: {name[:50]}", f"{self._keyword} has no such flag")


def json_list(text: str) -> tuple[str, ...] | None:
    """Return a list of strings in JSON; None for anything else, which is a shell's line."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    if any("\0" in item for item in value):
        raise bad("an argument holds a null character")
    return tuple(value)


def list_of(keyword: str, text: str) -> tuple[str, ...]:
    """Return one or more words: a list in JSON, or what stands between spaces."""
    found = json_list(text)
    words = tuple(text.split()) if found is None else found
    if not words:
        raise bad(f"{keyword} requires at least one argument")
    return words


def single(statement: Statement) -> str:
    """Return the whole of what follows the keyword, which must be something."""
    if not statement.rest:
        raise bad(f"{statement.keyword} requires exactly one argument")
    return statement.rest


def command_of(text: str) -> Command:
    """Return a command: a list in JSON, or a shell's line."""
    words = json_list(text)
    if words is not None:
        return Command(words, line=False)
    return Command((text,) if text else (), line=True)


def pairs_of(statement: Statement, escape: str) -> tuple[tuple[str, str], ...]:
    """Return ``name=value …``, or Docker's old form ``name value``."""
    words = split_words(statement.rest, escape)
    return name_values(statement.keyword, statement.rest, words, _HINT)
