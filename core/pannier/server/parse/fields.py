"""A JSON object that is read field by field, each with its type checked.

Keys are matched as Go's JSON decoder does, exactly or else without regard to case, because clients
rely on it. ``null`` is the same as absent. Text may hold neither NUL nor half a surrogate pair:
nothing that such text could name exists, and system calls refuse it late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["INT64_MAX", "INT64_MIN", "Fields", "clean_text"]

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)

_KINDS = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class Fields:
    """An object of a request's body.

    :param where: the object's own path in the body, for messages.
    """

    __slots__ = ("_data", "_folded", "_where")

    def __init__(self, data: dict[str, Any], where: str = "") -> None:
        self._data = data
        self._where = where
        self._folded: dict[str, str] | None = None

    def __bool__(self) -> bool:
        return bool(self._data)

    def __contains__(self, name: str) -> bool:
        return self._get(name) is not None

    def path(self, name: str) -> str:
        """Return a field's path in the body: ``HostConfig.Memory``."""
        return f"{self._where}.{name}" if self._where else name

    def _get(self, name: str) -> Any:
        if name in self._data:
            return self._data[name]
        if self._folded is None:
            self._folded = {}
            for key in self._data:
                if self._folded.setdefault(key.lower(), key) != key:
                    raise InvalidRequest(f"invalid JSON: {self.path(key)} is given twice")
        folded = self._folded.get(name.lower())
        return None if folded is None else self._data[folded]

    def _wrong(self, name: str, wanted: str, value: object) -> InvalidRequest:
        got = _KINDS.get(type(value), "something else")
        return InvalidRequest(f"invalid JSON: {self.path(name)} must be {wanted}, not {got}")

    def text(self, name: str, default: str = "") -> str:
        """Read a string."""
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return clean_text(value, self.path(name))

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Read a boolean."""
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "a boolean", value)
        return value

    def optional_boolean(self, name: str) -> bool | None:
        """Read a boolean that may be absent."""
        return self.boolean(name) if name in self else None

    def integer(self, name: str, default: int = 0) -> int:
        """Read a whole number that fits 64 bits."""
        value = self._get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "a whole number", value)
        if not INT64_MIN <= value <= INT64_MAX:
            raise InvalidRequest(f"invalid JSON: {self.path(name)} does not fit 64 bits")
        return value

    def optional_integer(self, name: str) -> int | None:
        """Read a whole number that may be absent."""
        return self.integer(name) if name in self else None

    def items(self, name: str) -> list[Any]:
        """Read an array of anything."""
        value = self._get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "an array", value)
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """Read an array of strings."""
        values = self.items(name)
        for value in values:
            if not isinstance(value, str):
                raise self._wrong(name, "an array of strings", value)
            clean_text(value, self.path(name))
        return tuple(values)

    def optional_strings(self, name: str) -> tuple[str, ...] | None:
        """Read an array of strings that may be absent, which an empty one is not."""
        return self.strings(name) if name in self else None

    def command(self, name: str) -> tuple[str, ...] | None:
        """Read a command: an array of strings, or a single string as its only word."""
        if isinstance(self._get(name), str):
            return (self.text(name),)
        return self.optional_strings(name)

    def object(self, name: str) -> Fields:
        """Read an object; an absent one is empty."""
        value = self._get(name)
        if value is None:
            return Fields({}, self.path(name))
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return Fields(value, self.path(name))

    def objects(self, name: str) -> Iterator[Fields]:
        """Read an array of objects."""
        for number, value in enumerate(self.items(name)):
            if not isinstance(value, dict):
                raise self._wrong(name, "an array of objects", value)
            yield Fields(value, f"{self.path(name)}[{number}]")

    def keys(self) -> tuple[str, ...]:
        """Return the keys as they came."""
        return tuple(clean_text(key, self._where) for key in self._data)

    def string_map(self, name: str) -> dict[str, str]:
        """Read an object whose values are strings."""
        value = self._get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        for key, item in value.items():
            if not isinstance(item, str):
                raise self._wrong(name, "an object of strings", item)
            clean_text(key, self.path(name))
            clean_text(item, self.path(name))
        return dict(value)


def clean_text(value: str, where: str) -> str:
    """Return *value*, unless it holds what no name, path or argument can."""
    if "\0" in value:
        raise InvalidRequest(f"{where}: text must not contain a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{where}: text is not valid Unicode") from None
    return value
