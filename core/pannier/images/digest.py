"""Digests, and the identities that are made of them.

A *digest* names content: ``sha256:`` and 64 hexadecimal digits (OCI image specification,
descriptor.md). A *diff id* is the digest of a layer's uncompressed tar stream. A *chain id* stands
for a layer and everything below it (config.md, "Layer ChainID").
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "EMPTY_DIFF_ID",
    "chain_ids",
    "check_digest",
    "digest_of",
    "encoded",
    "is_digest",
    "new_hash",
    "short_id",
]

_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")
_SHORT = 12

EMPTY_DIFF_ID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The digest of an empty tar archive, two zero blocks: a layer that changes nothing."""


def is_digest(text: str) -> bool:
    """Whether *text* is a digest of a known algorithm, of the right length, in lower case."""
    algorithm, _, value = text.partition(":")
    return _LENGTHS.get(algorithm) == len(value) and _HEX.fullmatch(value) is not None


def check_digest(text: str) -> str:
    """Return *text* if it is a digest.

    :raises InvalidRequest: it is none.
    """
    if is_digest(text):
        return text
    algorithm, colon, value = text.partition(":")
    if not colon or not algorithm or not value:
        problem = "invalid checksum digest format"
    elif algorithm not in _LENGTHS:
        problem = "unsupported digest algorithm"
    elif len(value) != _LENGTHS[algorithm]:
        problem = "invalid checksum digest length"
    else:
        problem = "invalid checksum digest format"
    raise InvalidRequest(
        f"{problem}: {text[:200]!r}", hint="a digest is sha256: and 64 lower-case hex digits"
    )


def encoded(digest: str) -> str:
    """Return the part behind the algorithm: the hexadecimal digits."""
    return digest.partition(":")[2]


def short_id(digest: str) -> str:
    """Return the twelve digits that Docker shows for an id."""
    return digest.rpartition(":")[2][:_SHORT]


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of *data*."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def new_hash(algorithm: str) -> hashlib._Hash:
    """Return a hash object for the algorithm of a valid digest."""
    if algorithm == "sha256":
        return hashlib.sha256()
    return hashlib.new(algorithm)


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Return the chain id of each layer, bottom first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
