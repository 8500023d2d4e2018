"""Names of images, as far as the command line takes them apart."""

from __future__ import annotations

__all__ = ["split_reference"]


def split_reference(reference: str) -> tuple[str, str]:
    """Return the repository and the tag of ``[host:port/]name[:tag]``; the tag may be empty."""
    head, slash, name = reference.rpartition("/")
    base, _, tag = name.partition(":")
    return head + slash + base, tag
