"""What a filesystem's error becomes in a storage driver that keeps its layers in folders."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FULL", "making"]

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a filesystem says that has no room."""


@contextlib.contextmanager
def making(what: str) -> Iterator[None]:
    """Have an error of the filesystem say what could not be made, and what to do.

    :raises DriverError: in place of OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        raise DriverError(
            f"cannot make {what}: {error.strerror}",
            hint="make room on the filesystem (`pannier system prune`)" if full else None,
        ) from error
