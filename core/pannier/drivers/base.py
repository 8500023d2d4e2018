"""What all kinds of driver have in common: identity, probing, capabilities, configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from enum import StrEnum
    from pathlib import Path

__all__ = ["Driver", "DriverContext", "IdMap", "IdMapping", "NoConfig"]


@dataclass(frozen=True)
class NoConfig:
    """The configuration of a driver that has nothing to configure."""


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What the core hands to a driver when it opens it.

    :param root: a folder of the driver's own that survives a reboot. Exists, mode 0700.
    :param state: a folder of the driver's own that is lost at reboot. Exists, mode 0700.
    """

    root: Path
    state: Path


@dataclass(frozen=True, slots=True)
class IdMapping:
    """One range of a user namespace's map: *size* ids from *container* on are *host* and on."""

    container: int
    host: int
    size: int


@dataclass(frozen=True, slots=True)
class IdMap:
    """The uid and gid maps of a user namespace (user_namespaces(7))."""

    uids: tuple[IdMapping, ...]
    gids: tuple[IdMapping, ...]

    def host_uid(self, uid: int) -> int:
        """Return the host's uid for a container's; ValueError where it is not mapped."""
        return _translate(self.uids, uid)

    def host_gid(self, gid: int) -> int:
        """Return the host's gid for a container's; ValueError where it is not mapped."""
        return _translate(self.gids, gid)


def _translate(ranges: tuple[IdMapping, ...], number: int) -> int:
    for mapping in ranges:
        if mapping.container <= number < mapping.container + mapping.size:
            return mapping.host + number - mapping.container
    raise ValueError(f"id {number} is not mapped")


class Driver(ABC):
    """The part of the contract that every kind of driver shares.

    A driver answers three questions before it is used: whether it works on this host
    (:meth:`probe`), what it offers (:attr:`capabilities`) and how it is configured
    (:attr:`config_type`). It is synchronous, is called from several threads (for one container
    never from two at once), knows nothing of HTTP or the database, and never calls the daemon.
    """

    kind: ClassVar[str]
    """``storage``, ``network``, ``resources``, ``runtime``, ``log``; set by the kind's contract."""

    id: ClassVar[str]
    """The name that users write in the configuration: ``overlay``, ``bridge``, ``v1`` …"""

    priority: ClassVar[int] = 0
    """Among the usable drivers of a kind, ``auto`` picks the highest priority; 0 for third-party
    drivers unless they know better, so that installing one changes nothing by itself."""

    capabilities: ClassVar[AbstractSet[StrEnum]] = frozenset()
    """What the driver declares to offer, of its kind's own enumeration. For all else it raises
    :class:`~pannier.errors.UnsupportedOperation`."""

    config_type: ClassVar[type[Any]] = NoConfig
    """A frozen dataclass, all of its fields with defaults: the driver's table in the TOML file."""

    @classmethod
    @abstractmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Try whether the driver can work on this host, and leave nothing behind.

        Tries the thing itself; never compares version numbers.

        :raises DriverUnavailable: with the reason, and the mend as a hint.
        """

    @abstractmethod
    def __init__(self, context: DriverContext, config: Any) -> None:
        """Open the driver and find again the state that an earlier instance left.

        :param config: an instance of :attr:`config_type`.
        """

    def close(self) -> None:  # noqa: B027 - most drivers hold nothing open
        """Let go of descriptors and sockets. Containers go on; a new instance takes over."""
