"""The driver against the kit, on a unified hierarchy."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from pannier.testing.resources import ResourceConformance
from pannier_cgroup_v2.driver import CgroupV2, CgroupV2Config
from pannier_cgroup_v2.hierarchy import Hierarchy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"


def unusable() -> str:
    """Say what this host lacks; nothing where it has all."""
    hierarchy = Hierarchy.discover()
    missing = {"cpu", "memory", "pids"} - (hierarchy.offered() if hierarchy else frozenset())
    return f"the unified hierarchy has no {', '.join(sorted(missing))}" if missing else ""


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        bool(unusable()),
        reason=f"{unusable()}: `tox -e kernel-6.1-cgroup_v2` runs these tests in a virtual machine",
    ),
]


class TestV2(ResourceConformance):
    """The contract, as the driver ``v2`` holds it."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], CgroupV2]:
        """Return a function that opens the driver with a parent of its own."""
        config = CgroupV2Config(f"pannier-kit-{secrets.token_hex(4)}")
        return lambda context: CgroupV2(context, config)
