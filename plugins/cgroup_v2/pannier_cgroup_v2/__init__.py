"""The ``cgroup_v2`` plugin: resource control through the unified hierarchy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.resources import ResourceDriver

__all__ = ["pannier_resource_drivers"]


@hookimpl
def pannier_resource_drivers() -> Sequence[type[ResourceDriver]]:
    """Supply the driver ``v2``."""
    from pannier_cgroup_v2.driver import CgroupV2  # noqa: PLC0415 - only who asks pays the import

    return (CgroupV2,)
