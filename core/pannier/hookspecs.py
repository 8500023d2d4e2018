"""The hooks that a plugin may implement, and nothing else.

A plugin is a module (or object) named by an entry point of the group ``pannier``. It marks its
functions with :data:`hookimpl`. A hook returns driver *classes*; the core asks each class whether
it can work here, and instantiates the chosen one with its own configuration table. Of two drivers
with one id both are refused, whichever came first, but one that Pannier itself brings stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.log import LogDriver
    from pannier.drivers.network import NetworkDriver
    from pannier.drivers.resources import ResourceDriver
    from pannier.drivers.runtime import RuntimeDriver
    from pannier.drivers.storage import StorageDriver

__all__ = ["GROUP", "DriverHooks", "hookimpl", "hookspec"]

GROUP = "pannier"
"""The entry-point group, and the name that pluggy knows this project by."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
"""The decorator of a plugin's hook implementations."""


class DriverHooks:
    """One hook for each kind of driver."""

    @hookspec
    def pannier_storage_drivers(self) -> Sequence[type[StorageDriver]]:
        """Return the storage driver classes that this plugin supplies."""
        raise NotImplementedError

    @hookspec
    def pannier_network_drivers(self) -> Sequence[type[NetworkDriver]]:
        """Return the network driver classes that this plugin supplies."""
        raise NotImplementedError

    @hookspec
    def pannier_resource_drivers(self) -> Sequence[type[ResourceDriver]]:
        """Return the resource-control driver classes that this plugin supplies."""
        raise NotImplementedError

    @hookspec
    def pannier_runtime_drivers(self) -> Sequence[type[RuntimeDriver]]:
        """Return the runtime driver classes that this plugin supplies."""
        raise NotImplementedError

    @hookspec
    def pannier_log_drivers(self) -> Sequence[type[LogDriver]]:
        """Return the log driver classes that this plugin supplies."""
        raise NotImplementedError
