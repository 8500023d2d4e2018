"""Storage drivers on folders of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import NoConfig
from pannier_storage_overlay.driver import OverlayConfig, OverlayStorage
from pannier_storage_vfs.driver import VfsStorage
from support.layers import Layers, open_layers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Layers]:
    """Give the overlay driver."""
    with open_layers(OverlayStorage, OverlayConfig(), tmp_path / "overlay") as layers:
        yield layers


@pytest.fixture
def vfs(tmp_path: Path) -> Iterator[Layers]:
    """Give the vfs driver."""
    with open_layers(VfsStorage, NoConfig(), tmp_path / "vfs") as layers:
        yield layers
