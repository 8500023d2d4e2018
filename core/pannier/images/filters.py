"""Which images a list or a prune is about: Docker's filters, as typed values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest
from pannier.images.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ImageFilters", "labels_match", "reference_matches"]


@dataclass(frozen=True, slots=True)
class ImageFilters:
    """Docker's filters of images; each that is given must hold.

    :param dangling: True: only images that no tag leads to (and no other image is made from);
        False: only tagged ones; None: either.
    :param labels: ``key`` or ``key=value``, all of which must match.
    :param not_labels: none of which may match (``label!=``, in prunes).
    :param before: a reference or id: only images made before that one.
    :param since: likewise, after that one.
    :param references: patterns, one of which must match a name.
    :param until: nanoseconds since the epoch: only images made earlier.
    """

    dangling: bool | None = None
    labels: tuple[str, ...] = ()
    not_labels: tuple[str, ...] = ()
    before: str | None = None
    since: str | None = None
    references: tuple[str, ...] = ()
    until: int | None = None


def labels_match(labels: Mapping[str, str], wanted: tuple[str, ...]) -> bool:
    """Whether each ``key`` or ``key=value`` of *wanted* is among *labels*."""
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def reference_matches(pattern: str, familiar: str) -> bool:
    """Whether a reference in its familiar form, with or without its tag, matches a pattern.

    The pattern is a path's: ``*`` and ``?`` stand for anything but a slash, ``[a-c]`` for one of
    several characters, and a backslash takes the next character as it is.

    :raises InvalidRequest: the pattern is malformed.
    """
    compiled = _compiled(pattern)
    if compiled.fullmatch(familiar):
        return True
    return compiled.fullmatch(parse_reference(familiar).familiar_name) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    # As between two stars there is only fixed text and neither passes a slash, the first place
    # where that text fits is as good as any: atomic groups keep matching linear for each star.
    pieces = _pieces(pattern)
    first, *middle = pieces
    expression = first
    if middle:
        last = middle.pop()
        expression += "".join(f"(?>[^/]*?{piece})" for piece in middle if piece)
        expression += f"[^/]*{last}"
    return re.compile(expression, re.DOTALL)


def _pieces(pattern: str) -> list[str]:
    """Split a pattern at its stars, and translate what is between them."""
    pieces = [""]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            pieces.append("")
            continue
        if character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            text, position = _class(pattern, position)
            pieces[-1] += text
        else:
            if character == "\\":
                character = pattern[position : position + 1]
                position += 1
            if not character:
                raise _malformed(pattern)
            pieces[-1] += re.escape(character)
    return pieces


def _class(pattern: str, position: int) -> tuple[str, int]:
    """Translate a character class; *position* is behind its bracket."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while not ranges or pattern[position : position + 1] != "]":
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        # One whose ends are the wrong way round matches nothing; NUL is in no reference.
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else r"\0")
    return f"[{'^' if negated else ''}{''.join(ranges)}]", position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position : position + 1]
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
    elif character in ("-", "]"):
        raise _malformed(pattern)
    if not character:
        raise _malformed(pattern)
    return character, position + 1


def _malformed(pattern: str) -> InvalidRequest:
    return InvalidRequest(
        f"invalid reference filter {pattern[:200]!r}: syntax error in pattern",
        hint="use * and ? for any characters, [abc] for one of several",
    )
