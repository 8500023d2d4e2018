"""``.dockerignore``: which files of a folder do not belong to a context.

Patterns are Go's ``filepath.Match``, with ``**`` for any number of folders. A pattern that fits a
folder fits everything in it; one that begins with ``!`` takes files back; the last that fits
decides. Used by the command line as well, so it imports nothing but the errors.
"""

from __future__ import annotations

import posixpath
import re

from pannier.errors import InvalidRequest

__all__ = ["IgnoreRules", "match_pattern"]

_MAX_PATTERN = 4096


def _translate(pattern: str, *, deep: bool) -> str:
    """Return a regular expression's text for a pattern.

    :param deep: ``**`` stands for any number of folders; else it is the same as ``*``.
    :raises InvalidRequest: a bracket is not closed, or an escape ends the pattern.
    """
    out: list[str] = []
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
                if position == len(pattern):
                    out.append(".*")
                else:
                    out.append("(?:.*/)?")
            else:
                out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "[":
            text, position = _bracket(pattern, position)
            out.append(text)
        elif character == "\\":
            if position == len(pattern):
                raise _bad(pattern)
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(character))
    return "".join(out)


def _bad(pattern: str) -> InvalidRequest:
    return InvalidRequest(
        f"syntax error in pattern {pattern[:100]!r}",
        hint="close the bracket, or escape it with a backslash",
    )


def _bracket(pattern: str, position: int) -> tuple[str, int]:
    """Translate a character class whose ``[`` was read; return it and where it ends."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    parts: list[str] = []
    while True:
        if pattern[position : position + 1] == "]" and parts:
            break
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        # A range that runs backwards fits nothing.
        if low <= high:
            parts.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            parts.append("")
    inner = "".join(parts)
    if not inner:
        return ("[^/]" if negated else r"(?!)"), position + 1
    # A class fits no slash, however it is written.
    return (f"(?!/)[^{inner}]" if negated else f"(?!/)[{inner}]"), position + 1


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
    return re.fullmatch(_translate(pattern, deep=False), name, re.DOTALL) is not None


class _Rule:
    __slots__ = ("_expression", "keeps", "parts", "text")

    def __init__(self, text: str, *, keeps: bool) -> None:
        self.text = text
        self.keeps = keeps
        self.parts = text.split("/")
        self._expression = re.compile(_translate(text, deep=True), re.DOTALL)

    def fits(self, path: str) -> bool:
        """Whether the rule fits a path, or a folder that it is in."""
        while path:
            if self._expression.fullmatch(path):
                return True
            path = path.rpartition("/")[0]
        return False


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
        for rule in self._rules:
            if rule.keeps == ignored and rule.fits(path):
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
