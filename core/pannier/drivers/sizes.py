"""Sizes as users write them."""

from __future__ import annotations

import re

from pannier.errors import InvalidRequest

__all__ = ["parse_size"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str, what: str) -> int:
    """Return the bytes of ``10m``, ``1.5GiB`` and the like; units are powers of 1024.

    :param what: the option's name, for the message.
    :raises InvalidRequest: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"invalid size for {what}: '{text}'", hint="for instance 10m or 1g")
    return int(float(match[1]) * (1 << _UNITS[match[2].lower()]))
