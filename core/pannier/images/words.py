"""Words of a Dockerfile's instruction: split like a shell's, quotes taken off, variables put in."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["expand", "expand_words", "name_values", "split_words"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?!$-]")
_ESCAPE = "\\"
_MAX_DEPTH = 16


def split_words(text: str) -> list[str]:
    """Split at white space that is not quoted or escaped; quotes and escapes stay in the words."""
    words: list[str] = []
    current = ""
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == _ESCAPE and quote != "'" and position < len(text):
            current += character + text[position]
            position += 1
        elif quote:
            current += character
            if character == quote:
                quote = ""
        elif character.isspace():
            if current:
                words.append(current)
                current = ""
        else:
            quote = character if character in "'\"" else ""
            current += character
    return [*words, current] if current else words


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Return a word without its quotes and escapes, and with its variables' values.

    Knows ``$NAME``, ``${NAME}`` and ``${NAME:-word}``, ``${NAME:+word}``, ``${NAME:?word}``, each
    also without the colon: then an empty value counts as set. An unset variable is empty.

    :raises InvalidRequest: a quote or brace is not closed, or ``:?`` demands a value.
    """
    return _Expander(word, variables).run()


def expand_words(text: str, variables: Mapping[str, str]) -> list[str]:
    """Split a text into words and expand each; one that comes to nothing is left out."""
    words = (expand(word, variables) for word in split_words(text))
    return [word for word in words if word]


class _Expander:
    def __init__(self, text: str, variables: Mapping[str, str], depth: int = 0) -> None:
        self._text = text
        self._variables = variables
        self._position = 0
        self._depth = depth

    def run(self) -> str:
        out = ""
        while (character := self._next()) is not None:
            if character == "'":
                out += self._single()
            elif character == '"':
                out += self._double()
            elif character == "$":
                out += self._variable()
            elif character == _ESCAPE:
                following = self._next()
                out += character if following is None else following
            else:
                out += character
        return out

    def _next(self) -> str | None:
        if self._position >= len(self._text):
            return None
        self._position += 1
        return self._text[self._position - 1]

    def _unclosed(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"failed to process {json.dumps(self._text[:200])}: unexpected end of statement while "
            f"looking for matching {what}",
            hint="close what was opened, or escape it with a backslash",
        )

    def _single(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise self._unclosed("single-quote")
        piece = self._text[self._position : end]
        self._position = end + 1
        return piece

    def _double(self) -> str:
        out = ""
        while True:
            character = self._next()
            if character is None:
                raise self._unclosed("double-quote")
            if character == '"':
                return out
            if character == "$":
                out += self._variable()
            elif character == _ESCAPE:
                following = self._next()
                if following is None:
                    raise self._unclosed("double-quote")
                # Inside double quotes only these lose their backslash, as in a shell.
                out += following if following in '"$\\' else character + following
            else:
                out += character

    def _variable(self) -> str:
        if self._text[self._position : self._position + 1] == "{":
            return self._braced()
        match = _NAME.match(self._text, self._position)
        if match is None:
            return "$"
        self._position = match.end()
        return self._variables.get(match[0], "")

    def _braced(self) -> str:
        end = self._closing_brace()
        inner = self._text[self._position + 1 : end]
        self._position = end + 1
        match = _NAME.match(inner)
        if match is None:
            raise InvalidRequest(
                f"failed to process {json.dumps(self._text[:200])}: bad substitution",
                hint="write ${NAME} or ${NAME:-default}",
            )
        name, rest = match[0], inner[match.end() :]
        if not rest:
            return self._variables.get(name, "")
        return self._modified(name, rest)

    def _closing_brace(self) -> int:
        depth = 0
        position = self._position
        while position < len(self._text):
            character = self._text[position]
            if character == _ESCAPE:
                position += 1
            elif character == "{":
                depth += 1
            elif character == "}":
                depth -= 1
                if not depth:
                    return position
            position += 1
        raise self._unclosed("}")

    def _modified(self, name: str, rest: str) -> str:
        colon = rest.startswith(":")
        operator, word = rest[colon : colon + 1], rest[colon + 1 :]
        if operator not in ("-", "+", "?") or self._depth >= _MAX_DEPTH:
            raise InvalidRequest(
                f"unsupported modifier ({rest[:20]}) in substitution",
                hint="use ${NAME:-word}, ${NAME:+word} or ${NAME:?word}",
            )
        value = self._variables.get(name)
        present = bool(value) if colon else value is not None
        if operator == "-" and present:
            return value or ""
        if operator == "+" and not present:
            return ""
        if operator == "?" and present:
            return value or ""
        text = _Expander(word, self._variables, self._depth + 1).run()
        if operator == "?":
            raise InvalidRequest(
                f"{name}: {text or 'parameter not set'}", hint=f"give {name} a value"
            )
        return text


def name_values(
    keyword: str, text: str, words: Sequence[str], hint: str
) -> tuple[tuple[str, str], ...]:
    """Return what ``name=value …`` gives, or Docker's old form ``name value``.

    :param keyword: the instruction that *text* follows.
    :param words: *text*, split; quotes and escapes stay in the values.
    :raises InvalidRequest: it has neither form.
    """
    if not words:
        raise InvalidRequest(f"{keyword} requires at least one argument", hint=hint)
    if "=" not in words[0]:
        name, *value = text.split(maxsplit=1)
        if not value:
            raise InvalidRequest(f"{keyword} must have two arguments", hint=hint)
        return ((name, value[0]),)
    return tuple(_name_value(keyword, word, hint) for word in words)


def _name_value(keyword: str, word: str, hint: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise InvalidRequest(
            f'Syntax error - can\'t find = in "{word[:100]}". Must be of the form: name=value',
            hint=hint,
        )
    if not name:
        raise InvalidRequest(f"{keyword} names can not be blank", hint=hint)
    return name, value
