"""Whether JSON has the shape that the specification's types say: asked before it is used."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, NotRequired

from pannier.errors import InvalidRequest

__all__ = ["check_shape"]

_NAMES = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
    list: "an array",
}


def check_shape(value: object, kind: Any, where: str) -> None:
    """Check a value, and all that is in it, against a type.

    Properties that the type does not have are not looked at: what is not known is refused, or
    ignored, elsewhere.

    :param kind: a TypedDict, a list or dict of something, a union, or a plain type.
    :param where: what the value is called in an error, as ``linux.namespaces[0].path``.
    :raises InvalidRequest: it is of another shape; the message names the place.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        _check_fields(value, kind, where)
    elif origin in (typing.Union, types.UnionType):
        if type(value) not in arguments:
            raise _wrong(value, where, *arguments)
    elif origin in (list, dict):
        if not isinstance(value, origin):
            raise _wrong(value, where, origin)
        named = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in named:
            inner = _inner(where, str(key)) if origin is dict else f"{where}[{key}]"
            check_shape(item, arguments[-1], inner)
    elif kind is not object and type(value) is not kind:  # a bool is an int to isinstance
        raise _wrong(value, where, kind)


def _check_fields(value: object, kind: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(value, where, dict)
    for name, (field, needed) in _fields(kind).items():
        if name in value:
            check_shape(value[name], field, _inner(where, name))
        elif needed:
            raise InvalidRequest(f"{_inner(where, name)} is missing")


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the type of each property, and whether it has to be there."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        optional = typing.get_origin(hint) is NotRequired
        field = typing.get_args(hint)[0] if optional else hint
        found[name] = (field, kind.__total__ and not optional)
    return found


def _inner(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wrong(value: object, where: str, *kinds: Any) -> InvalidRequest:
    wanted = " or ".join(_NAMES.get(kind, str(kind)) for kind in kinds)
    found = _NAMES.get(type(value), type(value).__name__)
    return InvalidRequest(f"{where or 'the document'} must be {wanted}, and is {found}")
