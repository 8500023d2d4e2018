"""The kit for runtime drivers.

Containers run the host's own programs, copied into a small root (see the fixture
``container_root``), so nothing has to be fetched. See :mod:`pannier.testing.base` for how the class
is used.
"""

from __future__ import annotations

from pannier.testing.runtime_lifecycle import LifecycleTests
from pannier.testing.runtime_specs import SpecTests
from pannier.testing.runtime_streams import StreamTests

__all__ = ["RuntimeConformance"]


class RuntimeConformance(LifecycleTests, StreamTests, SpecTests):
    """The contract of :class:`~pannier.drivers.runtime.RuntimeDriver`, as tests to inherit whole.

    They need root.
    """
