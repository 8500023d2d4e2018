"""Reads the values of flags, in the words that the docker client uses for what is wrong."""

from __future__ import annotations

from pannier.cli.command import UsageError
from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pannier.cli.command import Values

    Read = TypeVar("Read")

__all__ = ["fields", "filters", "key_values", "read", "read_lines", "read_text", "wrong"]


def wrong(name: str, value: str, reason: str) -> UsageError:
    """Return the error for a flag's value."""
    return UsageError(f'invalid argument "{value}" for "--{name}" flag: {reason}')


def read(values: Values, name: str, reader: Callable[[str], Read]) -> Read | None:
    """Return an option as ``reader`` sees it; None where it was not given.

    :raises UsageError: where the reader refuses it.
    """
    if not values.given(name):
        return None
    value = values.text(name)
    try:
        return reader(value)
    except InvalidRequest as error:
        raise wrong(name, value, error.message) from error
    except ValueError as error:
        raise wrong(name, value, "it is not a number") from error


def key_values(pairs: list[str], *, what: str = "label") -> dict[str, str]:
    """Return ``KEY=VALUE`` pairs as a dictionary; a key alone has an empty value.

    :raises UsageError: for an empty key.
    """
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key:
            raise UsageError(f"invalid {what} '{pair}': empty name")
        found[key] = value
    return found


def filters(pairs: list[str]) -> dict[str, dict[str, bool]] | None:
    """Return ``--filter`` values as the API's ``filters``; None where there are none.

    :raises UsageError: where one is not ``key=value``.
    """
    found: dict[str, dict[str, bool]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"invalid filter '{pair}'", hint="write --filter key=value")
        found.setdefault(key.strip().lower(), {})[value.strip()] = True
    return found or None


def read_text(path: str, what: str) -> str:
    """Return a file that a flag names.

    :raises UsageError: where it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 5 ms
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {path} is not UTF-8 text") from error


def read_lines(path: str, what: str) -> list[str]:
    """Return the lines of a file that a flag names, without comments and empty lines.

    Leading white space goes, trailing white space belongs to the value.
    """
    lines = (line.lstrip() for line in read_text(path, what).removeprefix("\ufeff").splitlines())
    found = [line for line in lines if line and not line.startswith("#")]
    for line in found:
        name = line.partition("=")[0]
        if not name or any(one.isspace() for one in name):
            raise UsageError(f"{what} {path}: invalid name in {line!r}")
    return found


def fields(flag_name: str, text: str) -> list[tuple[str, str | None]]:
    """Return the ``key=value`` fields of a comma-separated value; a bare key has None.

    :raises UsageError: where it is not comma-separated text.
    """
    import csv

    try:
        row: list[Any] = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise wrong(flag_name, text, str(error)) from error
    found = []
    for one in row:
        key, equals, value = str(one).partition("=")
        found.append((key.strip().lower(), value if equals else None))
    return found
