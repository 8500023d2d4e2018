"""The ``cgroup_v1`` plugin: resource control through the v1 hierarchies, on v1 and hybrid hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.resources import ResourceDriver

__all__ = ["pannier_resource_drivers"]


@hookimpl
def pannier_resource_drivers() -> Sequence[type[ResourceDriver]]:
    """Supply the driver ``v1``."""
    from pannier_cgroup_v1.driver import CgroupV1  # noqa: PLC0415 - only who asks pays the import

    return (CgroupV1,)
