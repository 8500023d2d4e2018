"""A Dockerfile's words: how they are split, unquoted, and how variables in them are replaced.

As a shell does it, with the Dockerfile's own escape character. Beside ``${name:-word}`` and its
like there are ``${name#pattern}``, ``##``, ``%``, ``%%``, ``/pattern/word`` and ``//pattern/word``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from pannier.build.globs import ANY, Many, One, Step, Text, ends, longest, shortest
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["expand", "expand_words", "split_words", "unquote"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?!$-]")
_MAX_DEPTH: Final = 16
_MAX_LENGTH: Final = 1 << 20
_MAX_WORK: Final = 1 << 26
"""Characters of a pattern times those of the value."""
_HINT: Final = (
    "known are ${NAME}, ${NAME:-word}, ${NAME:+word}, ${NAME:?word}, ${NAME#pattern}, "
    "${NAME%pattern} and ${NAME/pattern/word}"
)


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at white space that is not quoted or escaped; quotes and escapes stay in the words."""
    words: list[str] = []
    current: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == escape and quote != "'" and position < len(text):
            current.append(character + text[position])
            position += 1
        elif quote:
            current.append(character)
            if character == quote:
                quote = ""
        elif character.isspace():
            if current:
                words.append("".join(current))
                current = []
        else:
            quote = character if character in "'\"" else ""
            current.append(character)
    return [*words, "".join(current)] if current else words


def unquote(word: str, escape: str = "\\") -> str:
    """Return a word without quotes and escapes; a dollar sign stands for itself."""
    return _Expander(word, None, escape).run()


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Return a word without quotes and escapes, and with its variables' values.

    :raises InvalidRequest: something is not closed, a modifier is unknown, or ``:?`` demands a
        value.
    """
    if not any(character in word for character in ("$", "'", '"', escape)):
        return word
    return _Expander(word, variables, escape).run()


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Expand a text and split it; what an unquoted variable holds is split as well."""
    words: list[str] = []
    for word in split_words(text, escape):
        expander = _Expander(word, variables, escape)
        expander.run()
        words += expander.fields()
    return words


_BREAK: Final = "\0"
"""Stands for white space that splits a word; a Dockerfile has no null characters."""


def _room_after(room: int, piece: str) -> int:
    """Return how many characters may follow a piece that *room* was there for."""
    if len(piece) > room:
        raise InvalidRequest(
            f"a word of the Dockerfile comes to more than {_MAX_LENGTH} characters",
            hint="it multiplies its own variables; shorten it",
        )
    return room - len(piece)


class _Expander:
    def __init__(
        self, text: str, variables: Mapping[str, str] | None, escape: str, depth: int = 0
    ) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._position = 0
        self._depth = depth
        self._pieces: list[tuple[str, bool]] = []
        self._room = _MAX_LENGTH

    def run(self) -> str:
        while (character := self._next()) is not None:
            if character == "'":
                self._add(self._single(), quoted=True)
            elif character == '"':
                self._add(self._double(), quoted=True)
            elif character == "$":
                self._add(self._variable(), quoted=False)
            elif character == self._escape:
                following = self._next()
                self._add(character if following is None else following, quoted=True)
            else:
                self._add(character, quoted=True)
        return "".join(piece for piece, _ in self._pieces)

    def fields(self) -> list[str]:
        """Return the words that the text, which was run, comes to."""
        text = "".join(
            piece if quoted else re.sub(r"\s+", _BREAK, piece) for piece, quoted in self._pieces
        )
        return [field for field in text.split(_BREAK) if field]

    def _add(self, piece: str, *, quoted: bool) -> None:
        self._room = _room_after(self._room, piece)
        self._pieces.append((piece, quoted))

    def _next(self) -> str | None:
        if self._position >= len(self._text):
            return None
        self._position += 1
        return self._text[self._position - 1]

    def _unclosed(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"failed to process {json.dumps(self._text[:200])}: unexpected end of statement while "
            f"looking for matching {what}",
            hint="close what was opened, or escape it",
        )

    def _single(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise self._unclosed("single-quote")
        piece = self._text[self._position : end]
        self._position = end + 1
        return piece

    def _double(self) -> str:
        out: list[str] = []
        room = _MAX_LENGTH
        while True:
            character = self._next()
            if character is None:
                raise self._unclosed("double-quote")
            if character == '"':
                return "".join(out)
            if character == "$":
                out.append(self._variable())
                room = _room_after(room, out[-1])
            elif character == self._escape:
                following = self._next()
                if following is None:
                    raise self._unclosed("double-quote")
                # Inside double quotes only these lose their escape, as in a shell.
                kept = following in f'"${self._escape}'
                out.append(following if kept else character + following)
            else:
                out.append(character)

    def _variable(self) -> str:
        if self._variables is None:
            return "$"
        if self._text[self._position : self._position + 1] == "{":
            return self._braced(self._variables)
        match = _NAME.match(self._text, self._position)
        if match is None:
            return "$"
        self._position = match.end()
        return self._variables.get(match[0], "")

    def _braced(self, variables: Mapping[str, str]) -> str:
        end = self._closing_brace()
        inner = self._text[self._position + 1 : end]
        match = _NAME.match(inner)
        if match is None:
            raise self._bad(inner)
        self._position = end + 1
        name, rest = match[0], inner[match.end() :]
        value = variables.get(name)
        if not rest:
            return value or ""
        if self._depth >= _MAX_DEPTH:
            raise self._bad(inner)
        if rest[0] in "#%":
            return self._trimmed(value or "", rest)
        if rest[0] == "/":
            return self._replaced(value or "", rest)
        return self._defaulted(name, value, rest)

    def _bad(self, inner: str) -> InvalidRequest:
        return InvalidRequest(
            f"failed to process {json.dumps(self._text[:200])}: unsupported modifier or bad "
            f"substitution (${{{inner[:50]}}})",
            hint=_HINT,
        )

    def _closing_brace(self) -> int:
        depth = 0
        position = self._position
        while position < len(self._text):
            character = self._text[position]
            if character == self._escape:
                position += 1
            elif character == "{" and (
                position == self._position or self._text[position - 1] == "$"
            ):
                depth += 1
            elif character == "}":
                depth -= 1
                if not depth:
                    return position
            position += 1
        raise self._unclosed("}")

    def _inner(self, word: str) -> str:
        return _Expander(word, self._variables, self._escape, self._depth + 1).run()

    def _defaulted(self, name: str, value: str | None, rest: str) -> str:
        colon = rest.startswith(":")
        operator, word = rest[colon : colon + 1], rest[colon + 1 :]
        present = bool(value) if colon else value is not None
        if operator == "-":
            return value or "" if present else self._inner(word)
        if operator == "+":
            return self._inner(word) if present else ""
        if operator != "?":
            raise self._bad(name + rest)
        if present:
            return value or ""
        missing = "is not allowed to be empty" if colon else "is not allowed to be unset"
        raise InvalidRequest(
            f"failed to process {json.dumps(self._text[:200])}: {name}: "
            f"{self._inner(word) or missing}",
            hint=f"give {name} a value, with --build-arg {name}=… where it is an ARG",
        )

    def _trimmed(self, value: str, rest: str) -> str:
        operator = rest[0]
        greedy = rest.startswith(operator * 2)
        steps = self._glob(rest[2 if greedy else 1 :], value)
        if operator == "#":
            lengths = ends(steps, Text(value))
        else:
            lengths = ends(steps[::-1], Text(value[::-1]))
        if not lengths:
            return value
        length = longest(lengths) if greedy else shortest(lengths)
        return value[length:] if operator == "#" else value[: len(value) - length]

    def _replaced(self, value: str, rest: str) -> str:
        everywhere = rest.startswith("//")
        pattern, word = self._halves(rest[2 if everywhere else 1 :])
        steps = self._glob(pattern, value)
        replacement = self._inner(word)
        if len(value) * max(len(replacement), 1) > _MAX_LENGTH * 16:
            raise self._bad(rest)
        pieces: list[str] = []
        done = 0
        for begin, end in _matches(steps, value):
            pieces += [value[done:begin], replacement]
            done = end
            if not everywhere:
                break
        return "".join([*pieces, value[done:]])

    def _glob(self, text: str, value: str) -> list[Step]:
        """Return the steps of a pattern that is to be matched with a value."""
        pattern = self._pattern(text)
        if len(pattern) * len(value) > _MAX_WORK:
            raise InvalidRequest(
                f"the pattern {pattern[:50]!r} has {len(pattern)} characters, too many for a value "
                f"of {len(value)}",
                hint="shorten either, or do it in a RUN instruction",
            )
        return _steps(pattern)

    def _halves(self, text: str) -> tuple[str, str]:
        position = 0
        while position < len(text):
            if text[position] == self._escape:
                position += 1
            elif text[position] == "/":
                return text[:position], text[position + 1 :]
            position += 1
        return text, ""

    def _pattern(self, text: str) -> str:
        """Return a pattern with its variables replaced, and escapes kept for what follows them."""
        out: list[str] = []
        room = _MAX_LENGTH
        position = 0
        while position < len(text):
            character = text[position]
            if character == self._escape and position + 1 < len(text):
                out.append("\\" + text[position + 1])
                position += 2
            elif character == "$":
                inner = _Expander(text, self._variables, self._escape, self._depth + 1)
                inner._position = position + 1
                out.append(inner._variable())
                room = _room_after(room, out[-1])
                position = inner._position
            else:
                out.append(character)
                position += 1
        return "".join(out)


def _steps(pattern: str) -> list[Step]:
    """Return a pattern's steps; the backslash is the escape, whatever the Dockerfile's."""
    steps: list[Step] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\" and position + 1 < len(pattern):
            position += 1
            steps.append(One(pattern[position]))
        elif character == "*":
            # Many in a row mean the same as one.
            if not (steps and isinstance(steps[-1], Many)):
                steps.append(Many(ANY))
        else:
            steps.append(One(ANY if character == "?" else character))
        position += 1
    return steps


def _matches(steps: list[Step], value: str) -> Iterator[tuple[int, int]]:
    """Yield where what a pattern fits begins and ends: the first, as long as can be, and so on."""
    everywhere = (2 << len(value)) - 1
    # Backwards from everywhere a pattern comes to all places where it can begin.
    found = ends(steps[::-1], Text(value[::-1]), everywhere)
    begins = f"{found:0{len(value) + 1}b}"
    begin = begins.find("1")
    if any(isinstance(step, Many) for step in steps):
        # The first star reaches the last place of all where the pattern can end.
        if begin >= 0:
            yield begin, longest(ends(steps, Text(value), 1 << begin))
        return
    while begin >= 0:
        yield begin, begin + len(steps)
        begin = begins.find("1", begin + max(len(steps), 1))
