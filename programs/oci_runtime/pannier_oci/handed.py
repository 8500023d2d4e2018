"""The descriptors that our caller has opened for the container's process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    import argparse

__all__ = ["check_handed_on", "count_listening", "kept_descriptors"]

_FIRST_KEPT = 3


def count_listening() -> int:
    """Return how many sockets a service manager has passed to this very process: sd_listen_fds(3).

    :raises InvalidRequest: it does not say so in a number.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0  # told to another, from whom we have inherited the words
    text = os.environ.get("LISTEN_FDS", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest(f"LISTEN_FDS: {text!r} is no number of descriptors")
    return int(text)


def kept_descriptors(count: int) -> range:
    """Return the descriptors to hand on, of which there are so many."""
    return range(_FIRST_KEPT, _FIRST_KEPT + count)


def check_handed_on(found: argparse.Namespace) -> None:
    """Check that the caller has opened what a command hands on.

    To be called before we open anything ourselves, which would be taken for the caller's.

    :raises InvalidRequest: one of them is not open.
    """
    count = getattr(found, "preserve_fds", 0)
    if found.command in {"create", "run"}:
        count += count_listening()
    for descriptor in kept_descriptors(count):
        try:
            os.fstat(descriptor)
        except OSError as error:
            raise InvalidRequest(
                f"unable to preserve fds: descriptor {descriptor} is not open"
            ) from error
