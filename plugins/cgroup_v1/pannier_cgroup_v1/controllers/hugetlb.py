"""Huge pages: ``admin-guide/cgroup-v1/hugetlb.rst``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from pannier.drivers.resources import Limits

__all__ = ["writes"]


def writes(limits: Limits) -> list[Write]:
    """Return the writes for *limits*."""
    return [
        Write("hugetlb", f"hugetlb.{size}.limit_in_bytes", str(value), f"the {size} page limit")
        for size, value in limits.hugetlb.items()
    ]
