"""Whole files in and out: written beside their place, then renamed."""

from __future__ import annotations

import os

from pannier.cli.command import UsageError
from pannier.cli.session import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["open_input", "write_output"]


def open_input(path: str) -> int:
    """Return a descriptor to read from: a file, or stdin for the empty path and ``-``.

    :raises UsageError: where it cannot be opened, or stdin is a terminal.
    """
    if path in ("", "-"):
        if os.isatty(0):
            raise UsageError(
                "requested to read from STDIN, but STDIN is a terminal",
                code=1,
                hint="name a file, or send one through a pipe",
            )
        return 0
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}", code=1) from error


def write_output(path: str, pieces: Iterable[bytes]) -> None:
    """Write pieces to a file that appears whole or not at all, or to stdout without a path.

    :raises UsageError: where the file cannot be written, or stdout is a terminal.
    """
    if not path:
        if os.isatty(1):
            raise UsageError(
                "cowardly refusing to save to a terminal", code=1, hint="use -o, or redirect"
            )
        for piece in pieces:
            write_all(1, piece)
        return
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - pathlib is slow
        # A device or a pipe has no place beside it.
        _write(path, os.O_WRONLY, pieces)
        return
    staged = f"{path}.{os.getpid()}.part"
    try:
        _write(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, pieces)
        os.rename(staged, path)  # noqa: PTH104 - pathlib is slow
    except BaseException:
        if os.path.exists(staged):  # noqa: PTH110 - pathlib is slow
            os.unlink(staged)  # noqa: PTH108 - pathlib is slow
        raise


def _write(path: str, flags: int, pieces: Iterable[bytes]) -> None:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", code=1) from error
    try:
        for piece in pieces:
            write_all(descriptor, piece)
    finally:
        os.close(descriptor)
