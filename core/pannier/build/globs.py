"""Patterns with wildcards, matched in a time that grows with the pattern times the text.

A regular expression of Python's tries one way after another and keeps every other thread waiting
meanwhile: ``*a*a*a*b`` in somebody's ``.dockerignore`` could take it for ever. Here all ways are
followed at once. A set of places in a text is an integer whose bit *n* stands for the place before
character *n*, and each step of a pattern leads from one set to the next. A star is an addition,
whose carry runs along all that the star may pass ("MatchStar" of Cameron and others, *Bitwise Data
Parallelism in Regular Expression Matching*, 2014). Used by the command line as well, so it imports
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ANY",
    "NOT_SLASH",
    "Characters",
    "Folders",
    "Many",
    "One",
    "Step",
    "Text",
    "ends",
    "longest",
    "shortest",
]

_ONE = ord("1")


class Characters:
    """Some of all characters.

    :param ranges: the first and last of each; one that runs backwards holds nothing.
    :param negated: all but these.
    """

    __slots__ = ("negated", "ranges")

    def __init__(self, *ranges: tuple[str, str], negated: bool = False) -> None:
        self.ranges = ranges
        self.negated = negated


ANY = Characters(negated=True)
NOT_SLASH = Characters(("/", "/"), negated=True)


class Text:
    """A text that patterns are matched with; what is found out of it serves all of them."""

    __slots__ = ("_places", "_text", "whole")

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: dict[str | Characters, int] = {}
        self.whole = (1 << len(text)) - 1

    def places(self, what: str | Characters) -> int:
        """Return the places that a character, or one of several, stands behind."""
        found = self._places.get(what)
        if found is None:
            found = self._of_one(what) if isinstance(what, str) else self._of_several(what)
            self._places[what] = found
        return found

    def _of_one(self, character: str) -> int:
        position = self._text.find(character)
        if position < 0:
            return 0
        # Digits, not shifts, each of which would copy a long text's whole set.
        digits = bytearray(b"0") * len(self._text)
        while position >= 0:
            digits[-1 - position] = _ONE
            position = self._text.find(character, position + 1)
        return int(digits, 2)

    def _of_several(self, characters: Characters) -> int:
        found = 0
        for low, high in characters.ranges:
            if low == high:
                found |= self.places(low)
            else:
                for character in set(self._text):
                    if low <= character <= high:
                        found |= self.places(character)
        return self.whole ^ found if characters.negated else found


class One:
    """A step over one character."""

    __slots__ = ("what",)

    def __init__(self, what: str | Characters) -> None:
        self.what = what

    def go(self, begins: int, text: Text) -> int:
        """Return the places that the step leads to from any of *begins*."""
        return (begins & text.places(self.what)) << 1


class Many:
    """A step over any number of characters, or none."""

    __slots__ = ("what",)

    def __init__(self, what: str | Characters) -> None:
        self.what = what

    def go(self, begins: int, text: Text) -> int:
        """Return the places that the step leads to from any of *begins*."""
        places = text.places(self.what)
        return begins | (((begins & places) + places) ^ places)


class Folders:
    """A step over any number of folders, or none: it ends where it began, or behind a slash."""

    __slots__ = ()
    _all = Many(ANY)
    _slash = One("/")

    def go(self, begins: int, text: Text) -> int:
        """Return the places that the step leads to from any of *begins*."""
        return begins | self._slash.go(self._all.go(begins, text), text)


Step = One | Many | Folders


def ends(pattern: Sequence[Step], text: Text, begins: int = 1) -> int:
    """Return the places where what a pattern fits can end.

    Backwards, as patterns without folders may be matched: the steps and the text each the other
    way round.

    :param begins: the places where it may begin; the beginning of the text.
    """
    places = begins
    for step in pattern:
        places = step.go(places, text)
        if not places:
            break
    return places


def shortest(places: int) -> int:
    """Return the first of some places, of which there is one at least."""
    return (places & -places).bit_length() - 1


def longest(places: int) -> int:
    """Return the last of some places, of which there is one at least."""
    return places.bit_length() - 1
