"""The driver against the kit, on this host's own hierarchies."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from pannier.testing.resources import ResourceConformance
from pannier_cgroup_v1.driver import CgroupV1, CgroupV1Config
from pannier_cgroup_v1.hierarchies import Hierarchies

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        "memory" not in Hierarchies.discover().by_controller,
        reason="needs a host whose memory controller is bound to cgroup v1",
    ),
]


class TestV1(ResourceConformance):
    """The contract, as the driver ``v1`` holds it."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], CgroupV1]:
        """Return a function that opens the driver with a parent of its own."""
        config = CgroupV1Config(f"pannier-kit-{secrets.token_hex(4)}")
        return lambda context: CgroupV1(context, config)
