"""Functions called on threads of their own, where what they unshare is nobody else's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread"]

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> T:
    """Call a function on a new thread, which ends with it: what it unshares is its own.

    :raises DriverError: in place of an OSError.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run, name="pannier-enter")
    thread.start()
    thread.join()
    if errors:
        error = errors[0]
        if isinstance(error, OSError):
            raise DriverError(f"cannot enter the container's filesystem: {error}") from error
        raise error
    return results[0]
