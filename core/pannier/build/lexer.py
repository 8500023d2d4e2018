"""A Dockerfile's text as instructions: directives, comments, continued lines, heredocs.

What an instruction means is the parser's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.build.words import split_words, unquote
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_DOCKERFILE", "Heredoc", "Source", "Statement", "read_source", "statements"]

MAX_DOCKERFILE: Final = 4 << 20
"""Bytes."""

_DIRECTIVE: Final = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S.*)")
"""Of a line without white space around it, which the value needs not look for then."""
_KNOWN: Final = frozenset({"escape", "syntax", "check"})
_HEREDOC: Final = re.compile(r"(\d*)<<(-?)([^<]*)")
_WITH_HEREDOCS: Final = frozenset({"ADD", "COPY", "RUN"})
_SPACE: Final = re.compile(r"[\t\v\f\r ]+")
_FLAG: Final = "--"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Text that stands below an instruction.

    :param expand: variables in it are replaced (its name is not quoted).
    :param chomp: tabs at the beginning of its lines are taken off (``<<-``).
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False

    @property
    def text(self) -> str:
        """The content as it is to be used."""
        if not self.chomp:
            return self.content
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction, with its lines joined.

    :param line: where it begins, counted from 1.
    :param end: the last of its lines.
    :param keyword: in capitals.
    :param flags: ``--name=value`` in the order given, quotes taken off.
    :param rest: what follows keyword and flags.
    :param original: keyword, flags and rest as written, for messages.
    """

    line: int
    end: int
    keyword: str
    flags: tuple[str, ...]
    rest: str
    original: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A Dockerfile, and what its first lines say of how it is to be read."""

    lines: tuple[str, ...]
    escape: str = "\\"
    syntax: str = ""


def read_source(data: bytes) -> Source:
    """Decode a Dockerfile and read its directives.

    :raises InvalidRequest: it is too long, no text, or has a wrong directive.
    """
    if len(data) > MAX_DOCKERFILE:
        raise InvalidRequest(
            f"the Dockerfile has {len(data)} bytes; {MAX_DOCKERFILE} are allowed",
            hint="is it the right file?",
        )
    if b"\0" in data:
        raise InvalidRequest(
            "the Dockerfile holds null characters: it is no text", hint="is it the right file?"
        )
    text = data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")
    lines = tuple(text.split("\n"))
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _KNOWN:
            break
        name = match[1].lower()
        if name in found:
            raise InvalidRequest(
                f"Dockerfile:{number}: only one {name} parser directive is allowed"
            )
        found[name] = match[2]
    escape = found.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise InvalidRequest(
            f"invalid escape token '{escape[:20]}' does not match ` or \\",
            hint="write # escape=` or leave the line out",
        )
    return Source(lines, escape, found.get("syntax", ""))


def statements(source: Source) -> Iterator[Statement]:
    """Yield the instructions of a Dockerfile.

    :raises InvalidRequest: a heredoc or quote is not closed, with the line.
    """
    lines = source.lines
    escape = re.escape(source.escape)
    # A doubled escape stands for itself, and does not continue the line.
    continued = re.compile(rf"(?:(.*[^{escape}])|){escape}[ \t]*", re.DOTALL)
    position = 0
    while position < len(lines):
        begin = position
        text = lines[position].strip()
        position += 1
        if not text or text.startswith("#"):
            continue
        pieces: list[str] = []
        while (match := continued.fullmatch(text)) is not None:
            pieces.append(match[1] or "")
            # Empty lines and comments in between count for nothing.
            while position < len(lines) and _is_blank(lines[position]):
                position += 1
            if position == len(lines):
                text = ""
                break
            text = lines[position]
            position += 1
        pieces.append(text)
        joined = "".join(pieces).strip()
        if not joined:
            continue
        try:
            statement = _statement(joined, source.escape, begin + 1)
            heredocs, position = _heredocs(statement, lines, position, source.escape)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"Dockerfile:{begin + 1}: {error.message}", hint=error.hint
            ) from None
        yield Statement(
            statement.line,
            position,
            statement.keyword,
            statement.flags,
            statement.rest,
            statement.original,
            heredocs,
        )


def _is_blank(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped.startswith("#")


def _statement(text: str, escape: str, line: int) -> Statement:
    parts = _SPACE.split(text, maxsplit=1)
    rest = parts[1].strip() if len(parts) > 1 else ""
    flags, rest = take_flags(rest, escape)
    keyword = parts[0].upper()
    original = keyword if len(parts) == 1 else f"{keyword} {parts[1].strip()}"
    return Statement(line, line, keyword, flags, rest, original)


def take_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Split the flags off what follows an instruction's keyword."""
    flags: list[str] = []
    while text.startswith(_FLAG):
        end = _end_of_word(text, escape)
        word = text[:end]
        text = text[end:].lstrip()
        if word == _FLAG:
            break
        flags.append(unquote(word, escape))
    return tuple(flags), text


def _end_of_word(text: str, escape: str) -> int:
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            return position
        position += 1
    return len(text)


def _heredocs(
    statement: Statement, lines: tuple[str, ...], position: int, escape: str
) -> tuple[tuple[Heredoc, ...], int]:
    keyword, rest = statement.keyword, statement.rest
    if keyword == "ONBUILD":
        inner = _SPACE.split(rest, maxsplit=1)
        keyword, rest = inner[0].upper(), inner[1] if len(inner) > 1 else ""
    if keyword not in _WITH_HEREDOCS or "<<" not in rest:
        return (), position
    found = []
    for word in split_words(rest, escape):
        match = _HEREDOC.fullmatch(word)
        if match is None or not match[3]:
            continue
        name = unquote(match[3], escape)
        if not name or any(character.isspace() for character in name):
            continue
        content: list[str] = []
        chomp = bool(match[2])
        while True:
            if position >= len(lines):
                raise InvalidRequest(
                    f"unterminated heredoc {name[:50]!r}",
                    hint=f"a line with {name[:50]} alone must end it",
                )
            line = lines[position]
            position += 1
            if (line.lstrip("\t") if chomp else line) == name:
                break
            content.append(line + "\n")
        found.append(Heredoc(name, "".join(content), name == match[3], chomp))
    return tuple(found), position
