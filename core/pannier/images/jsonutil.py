"""Reading JSON that strangers wrote: every field is checked, every error names the field."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn

from pannier.errors import ImageInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Node", "dump"]

MAX_DOCUMENT = 8 << 20
"""No manifest, index or configuration may be longer (registries stop at 4 MiB)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def dump(document: object) -> bytes:
    """Return a document as bytes; equal documents give equal bytes.

    Escaped to ASCII, so that a name with bytes that are no UTF-8 (a lone surrogate in Python)
    survives a round trip.
    """
    return json.dumps(document, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


class Node:
    """A JSON object of which fields are taken by type.

    :param where: what the object is, for error messages.

    A field that is absent or null yields the empty value of its type, as Docker reads it.
    """

    __slots__ = ("fields", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ImageInvalid(f"{where}: expected a JSON object")
        self.fields: Mapping[str, object] = value
        self.where = where

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Node:
        """Parse a document.

        :raises ImageInvalid: too long, not JSON, or not an object.
        """
        return cls(load(raw, where), where)

    def fail(self, field: str, expected: str) -> NoReturn:
        """Refuse the document because of *field*."""
        raise ImageInvalid(f"{self.where}: {field} must be {expected}")

    def text(self, field: str) -> str:
        """Return a string; empty where absent."""
        value = self.fields.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.fail(field, "a string")
        return value

    def integer(self, field: str) -> int:
        """Return an integer; 0 where absent."""
        value = self.fields.get(field)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 63:
            self.fail(field, "an integer")
        return value

    def flag(self, field: str) -> bool:
        """Return a boolean; False where absent."""
        value = self.fields.get(field)
        if value is None:
            return False
        if not isinstance(value, bool):
            self.fail(field, "true or false")
        return value

    def texts(self, field: str) -> tuple[str, ...] | None:
        """Return a list of strings; None where absent."""
        value = self.fields.get(field)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(field, "a list of strings")
        return tuple(value)

    def mapping(self, field: str) -> dict[str, str]:
        """Return an object whose values are strings; empty where absent."""
        value = self.fields.get(field)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            self.fail(field, "an object of strings")
        return dict(value)

    def keys(self, field: str) -> tuple[str, ...]:
        """Return the keys of an object that is used as a set; empty where absent."""
        value = self.fields.get(field)
        if value is None:
            return ()
        if not isinstance(value, dict):
            self.fail(field, "an object")
        return tuple(value)

    def node(self, field: str) -> Node | None:
        """Return an object; None where absent."""
        value = self.fields.get(field)
        return None if value is None else Node(value, f"{self.where}: {field}")

    def nodes(self, field: str) -> list[Node]:
        """Return a list of objects; empty where absent."""
        value = self.fields.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(field, "a list")
        return [Node(item, f"{self.where}: {field}[{number}]") for number, item in enumerate(value)]

    def rest(self, known: frozenset[str]) -> dict[str, object]:
        """Return the fields that are not *known*."""
        return {key: value for key, value in self.fields.items() if key not in known}


def load(raw: bytes, where: str) -> object:
    """Parse a document of any type.

    :raises ImageInvalid: too long, or not JSON.
    """
    if len(raw) > MAX_DOCUMENT:
        raise ImageInvalid(f"{where} is longer than {MAX_DOCUMENT >> 20} MiB")
    decode: Callable[[bytes], object] = json.loads
    try:
        return decode(raw)
    except RecursionError:
        raise ImageInvalid(f"{where} is nested too deeply") from None
    except ValueError as error:
        reason = _CONTROL.sub("?", str(error))[:200]
        raise ImageInvalid(f"{where} is not valid JSON: {reason}") from None
