"""What the server says about itself."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass, field
from importlib import metadata

__all__ = ["Identity", "machine_architecture"]

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@functools.cache
def machine_architecture() -> str:
    """Return this machine's architecture by the name that images and clients use: ``amd64``."""
    machine = platform.machine()
    return _GO_ARCHITECTURES.get(machine, machine)


def _version() -> str:
    try:
        return metadata.version("pannier")
    except metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Identity:
    """The product's name and version, as ``/version`` and the ``Server`` header give them.

    :param experimental: whether clients are told that experimental features are on.
    """

    product: str = "Pannier"
    version: str = field(default_factory=_version)
    python: str = field(default_factory=platform.python_version)
    kernel: str = field(default_factory=lambda: os.uname().release)
    architecture: str = field(default_factory=machine_architecture)
    experimental: bool = False

    @property
    def experimental_word(self) -> str:
        """What headers and ``/version`` say of it."""
        return "true" if self.experimental else "false"
