"""What a driver's answer must be: the contracts' own annotations, as checks at run time.

A contract says in its annotations what each of its methods returns. Here such an annotation becomes
a function that looks at an answer, down to the fields of the value types in it. So nothing about
answers is written down twice, and a method that is added to a contract is looked at from then on.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args, get_origin

from pannier.drivers import oci
from pannier.drivers.base import DriverContext, IdMap
from pannier.drivers.operations import Plan

__all__ = ["Check", "fits", "returned", "returned_words"]

Check = Callable[[Any], bool]

_NAMES: Final = {
    "AbstractSet": AbstractSet,
    "BinaryIO": BinaryIO,
    "DriverContext": DriverContext,
    "IdMap": IdMap,
    "Iterable": Iterable,
    "Iterator": Iterator,
    "Mapping": Mapping,
    "Path": Path,
    "Plan": Plan,
    "Sequence": Sequence,
    "oci": oci,
}
"""What the contracts import for their annotations only."""


def returned(contract: type, method: str) -> Any:
    """Return the annotation of what a contract's method returns."""
    return _hints(getattr(contract, method))["return"]


def returned_words(contract: type, method: str) -> str:
    """Return that annotation as the contract has it written."""
    return str(getattr(contract, method).__annotations__["return"])


def _hints(annotated: Any) -> dict[str, Any]:
    return typing.get_type_hints(annotated, localns=_NAMES)


@functools.cache
def fits(annotation: Any) -> Check:
    """Return a function that says whether a value is what an annotation asks for.

    :raises TypeError: no check is known for the annotation.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        either = [fits(one) for one in arguments]
        return lambda value: any(check(value) for check in either)
    if origin is Literal:
        return lambda value: value in arguments
    return _single(annotation) if origin is None else _container(origin, arguments)


def _single(annotation: Any) -> Check:
    if annotation is Any:
        return lambda _: True
    if annotation in (int, float):
        return lambda value: isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if dataclasses.is_dataclass(annotation):
        return _fields(annotation)
    if isinstance(annotation, type):
        return lambda value: isinstance(value, annotation)
    raise TypeError(f"there is no check for {annotation!r}")


def _container(origin: Any, arguments: tuple[Any, ...]) -> Check:
    if issubclass(origin, Mapping):
        key, item = (fits(one) for one in arguments)
        return lambda value: (
            isinstance(value, origin) and all(key(k) and item(v) for k, v in value.items())
        )
    if origin is tuple and arguments[-1] is not Ellipsis:
        places = [fits(one) for one in arguments]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(places)
            and all(check(one) for check, one in zip(places, value, strict=True))
        )
    if issubclass(origin, Collection):
        member = fits(arguments[0])
        return lambda value: isinstance(value, origin) and all(map(member, value))
    raise TypeError(f"there is no check for {origin!r}")


def _fields(cls: Any) -> Check:
    hints = _hints(cls)
    checks = [
        (operator.attrgetter(one.name), fits(hints[one.name])) for one in dataclasses.fields(cls)
    ]
    return lambda value: isinstance(value, cls) and all(check(get(value)) for get, check in checks)
