"""What the engine is told by whoever composes it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.drivers.base import IdMap
    from pannier.engine.model import Ulimit

__all__ = ["EngineSettings"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The engine's own settings.

    :param root: the folder that survives a reboot.
    :param state: the folder that is lost at reboot.
    :param userns_remap: the map of every new container's user namespace; None for the host's ids.
    :param default_ulimits: for containers that ask for none of that name.
    :param hostname: what the host is called.
    :param stop_timeout: seconds between the stop signal and the kill.
    :param default_init: run an init in every container that does not say.
    :param patience: seconds that a driver may take for a short step.
    :param resolv_conf: the host's resolver configuration, which containers get a copy of.
    """

    root: Path
    state: Path
    userns_remap: IdMap | None = None
    default_ulimits: tuple[Ulimit, ...] = ()
    hostname: str = field(default_factory=socket.gethostname)
    stop_timeout: int = 10
    default_init: bool = False
    patience: float = 300.0
    resolv_conf: str = "/etc/resolv.conf"
