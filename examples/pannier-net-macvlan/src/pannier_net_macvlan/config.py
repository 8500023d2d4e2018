"""What can be configured: the table ``[network.macvlan]``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MacvlanConfig"]


@dataclass(frozen=True)
class MacvlanConfig:
    """The driver's configuration.

    :param pools: where networks without a subnet get theirs: ``BASE:PREFIX``, cut into subnets of
        that prefix length, or ``BASE`` alone.
    """

    pools: tuple[str, ...] = ("10.224.0.0/12:24",)
