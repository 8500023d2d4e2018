"""``.dockerignore``: which files of a folder do not belong to a context.

Patterns are Go's ``filepath.Match``, with ``**`` for any number of folders. A pattern that fits a
folder fits everything in it; one that begins with ``!`` takes files back; the last that fits
decides. Used by the command line as well, so it imports nothing but the errors
and the matcher of patterns.
"""

from __future__ import annotations

import functools
import posixpath

from pannier.build.globs import ANY, NOT_SLASH, Characters, Folders, Many, One, Step, Text, ends
from pannier.errors import InvalidRequest

__all__ = ["IgnoreRules", "match_pattern"]

_MAX_PATTERN = 4096


@functools.lru_cache(maxsize=64)
def _parse(pattern: str, *, deep: bool) -> tuple[Step, ...]:
    """Return a pattern's steps.

    :param deep: ``**`` stands for any number of folders; else it is the same as ``*``.
    :raises InvalidRequest: a bracket is not closed, or an escape ends the pattern.
    """
    steps: list[Step] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            if deep and pattern[position : position + 1] == "*":
                position += 1
                # "**/" may stand for no folder at all.
                if pattern[position : position + 1] == "/":
                    position += 1
                steps.append(Many(ANY) if position == len(pattern) else Folders())
            else:
                steps.append(Many(NOT_SLASH))
        elif character == "?":
            steps.append(One(NOT_SLASH))
        elif character == "[":
            characters, position = _bracket(pattern, position)
            steps.append(One(characters))
        elif character == "\\":
            if position == len(pattern):
                raise _bad(pattern)
            steps.append(One(pattern[position]))
            position += 1
        else:
            steps.append(One(character))
    return tuple(steps)


def _bad(pattern: str) -> InvalidRequest:
    return InvalidRequest(
        f"syntax error in pattern {pattern[:100]!r}",
        hint="close the bracket, or escape it with a backslash",
    )


def _bracket(pattern: str, position: int) -> tuple[Characters, int]:
    """Read a character class whose ``[`` was read; return it and where it ends."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    # A class fits no slash, however it is written.
    ranges: list[tuple[str, str]] = [("/", "/")] if negated else []
    begin = position
    while pattern[position : position + 1] != "]" or position == begin:
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        if negated or not low <= "/" <= high:
            ranges.append((low, high))
        else:
            ranges += [(low, "."), ("0", high)]  # a slash's neighbours
    return Characters(*ranges, negated=negated), position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position : position + 1]
    if character in ("", "-", "]"):
        raise _bad(pattern)
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
        if not character:
            raise _bad(pattern)
    if position + 1 >= len(pattern):
        raise _bad(pattern)
    return character, position + 1


def match_pattern(pattern: str, name: str) -> bool:
    """Whether a pattern of Go's ``filepath.Match`` fits the whole of *name*.

    :raises InvalidRequest: the pattern is malformed.
    """
    if len(pattern) > _MAX_PATTERN:
        raise _bad(pattern)
    return bool(ends(_parse(pattern, deep=False), Text(name)) >> len(name))


class _Rule:
    __slots__ = ("_steps", "keeps", "parts", "text")

    def __init__(self, text: str, *, keeps: bool) -> None:
        self.text = text
        self.keeps = keeps
        self.parts = text.split("/")
        self._steps = _parse(text, deep=True)

    def fits(self, path: Text, wholes: int) -> bool:
        """Whether the rule fits a path, or a folder that it is in.

        :param wholes: the places where the path, or the path of such a folder, ends.
        """
        return bool(ends(self._steps, path) & wholes)


class IgnoreRules:
    """The rules of one file.

    :param text: the file's content.
    :raises InvalidRequest: a pattern is malformed; the message has its line.
    """

    def __init__(self, text: str) -> None:
        self._rules: list[_Rule] = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            pattern = line.strip()
            # Only a # at the very beginning makes a comment.
            if not pattern or line.startswith("#"):
                continue
            keeps = pattern.startswith("!")
            if keeps:
                pattern = pattern[1:].strip()
                if not pattern:
                    raise InvalidRequest(f'.dockerignore:{number}: illegal exclusion pattern: "!"')
            if len(pattern) > _MAX_PATTERN:
                raise InvalidRequest(f".dockerignore:{number}: the pattern is too long")
            cleaned = posixpath.normpath(pattern)
            # The root of the context is written with a leading slash as well.
            cleaned = cleaned.lstrip("/") if len(cleaned) > 1 else cleaned
            if not cleaned or cleaned == ".":
                continue
            try:
                self._rules.append(_Rule(cleaned, keeps=keeps))
            except InvalidRequest as error:
                message = f".dockerignore:{number}: {error.message}"
                raise InvalidRequest(message, hint=error.hint) from None
        self._keeps = any(rule.keeps for rule in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def ignores(self, path: str) -> bool:
        """Whether a path (relative, ``/`` between its parts) does not belong to the context."""
        ignored = False
        text = Text(path)
        # All but the place at the very beginning: nothing has an empty path.
        wholes = (text.places("/") | 1 << len(path)) & ~1
        for rule in self._rules:
            if rule.keeps == ignored and rule.fits(text, wholes):
                ignored = not ignored
        return ignored

    def prunes(self, folder: str) -> bool:
        """Whether nothing in an ignored folder can belong to the context: it need not be read."""
        if not self._keeps:
            return True
        depth = folder.count("/") + 1
        for rule in self._rules:
            if not rule.keeps:
                continue
            # Where a rule has wildcards, any folder may hold what it fits.
            begin = rule.parts[:depth]
            if any(character in part for part in begin for character in "*?[\\"):
                return False
            if "/".join(begin) == folder or folder.startswith(rule.text + "/"):
                return False
        return True
