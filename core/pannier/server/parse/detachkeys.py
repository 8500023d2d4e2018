"""The key sequence that detaches a terminal: ``ctrl-p,ctrl-q``."""

from __future__ import annotations

import re
from typing import Final

from pannier.errors import InvalidRequest

__all__ = ["DEFAULT_DETACH_KEYS", "parse_detach_keys"]

DEFAULT_DETACH_KEYS: Final = b"\x10\x11"

_CONTROL: Final = re.compile(r"ctrl-([a-z@\[\\\]^_])")


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes that a sequence stands for; the default's for an empty text.

    :raises InvalidRequest: a key is neither one character nor ``ctrl-`` and one.
    """
    if not text:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for key in text.split(","):
        match = _CONTROL.fullmatch(key.lower())
        if match is not None:
            keys.append(ord(match[1].upper()) & 0x1F)
        elif len(key) == 1 and key.isascii():
            keys += key.encode()
        else:
            raise InvalidRequest(
                f"Invalid detach keys ({text}) provided", hint="write them like ctrl-p,ctrl-q"
            )
    return bytes(keys)
