"""Turns the engine's frozen dataclasses into JSON text and back, for the database.

Fields at their default are left out, so that a new field with a default needs no migration; a
field that is not known any more is ignored.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["dumps", "loads"]

T = TypeVar("T")


def dumps(value: object) -> str:
    """Return the JSON text of a dataclass instance."""
    return json.dumps(_encode(value), separators=(",", ":"))


def loads(kind: type[T], text: str) -> T:
    """Return the instance of the dataclass *kind* that :func:`dumps` made *text* from."""
    decode = _decoder(cast("Hashable", kind))
    return cast("T", decode(json.loads(text)))


def _encode(value: object) -> object:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple:
        return [_encode(item) for item in cast("tuple[object, ...]", value)]
    if dataclasses.is_dataclass(kind):
        found = {}
        for name, default in _fields(kind):
            item = getattr(value, name)
            if item is not default and item != default:
                found[name] = _encode(item)
        return found
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    return value


_PLAIN = frozenset({str, int, bool, float, type(None)})


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, object], ...]:
    """Return a dataclass's fields with their defaults, looked up once for each class."""
    return tuple((item.name, _default(item)) for item in dataclasses.fields(kind))


def _default(item: dataclasses.Field[Any]) -> object:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default  # MISSING, which equals nothing, where there is none


@functools.cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    if typing.get_origin(kind) is None:
        return _plain_decoder(kind)
    return _generic_decoder(typing.get_origin(kind), typing.get_args(kind))


def _plain_decoder(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return lambda value: value


def _generic_decoder(origin: Any, arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if origin in (Union, types.UnionType):
        inner = _decoder(next(item for item in arguments if item is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            inner = _decoder(arguments[0])
            return lambda value: tuple(inner(item) for item in value)
        return tuple
    if issubclass(origin, Mapping):
        inner = _decoder(arguments[1])
        return lambda value: {key: inner(item) for key, item in value.items()}
    raise TypeError(f"the database cannot keep a {origin}")


def _dataclass_decoder(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    decoders: dict[str, Callable[[Any], Any]] = {}

    def decode(value: dict[str, Any]) -> Any:
        if not decoders:
            decoders.update(
                (item.name, _decoder(hints[item.name])) for item in dataclasses.fields(kind)
            )
        return kind(
            **{name: decoders[name](item) for name, item in value.items() if name in decoders}
        )

    return decode
