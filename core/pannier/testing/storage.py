"""The conformance kit of storage drivers: :class:`StorageConformance`, to be inherited whole."""

from __future__ import annotations

from pannier.testing.storage_containers import ContainerTests
from pannier.testing.storage_diffs import DiffTests
from pannier.testing.storage_faults import FaultTests
from pannier.testing.storage_hiding import HidingTests
from pannier.testing.storage_kills import KillTests
from pannier.testing.storage_layers import LayerTests
from pannier.testing.storage_options import OptionTests

__all__ = ["StorageConformance"]


class StorageConformance(
    LayerTests, HidingTests, ContainerTests, DiffTests, OptionTests, FaultTests, KillTests
):
    """What :mod:`pannier.drivers.storage` promises, tested against a driver."""
