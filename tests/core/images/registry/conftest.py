"""A registry that can misbehave, and an image store that pulls from it and pushes to it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pannier.images.registry import incoming, listing, transport, uploading
from pannier.images.registry.settings import RegistryOptions
from support.images import image, layer
from support.registry import FaultyRegistry
from support.registry_rig import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.images import BuiltImage


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries."""
    for module in (incoming, listing, uploading):
        monkeypatch.setattr(module, "_PAUSE", 0.001)
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    """Return a registry of our own."""
    running = FaultyRegistry()
    yield running
    running.close()


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return a function that makes a store; a second name makes a second one."""
    made: list[Rig] = []

    def make(name: str = "store", options: RegistryOptions | None = None) -> Rig:
        made.append(Rig(tmp_path / name, options or RegistryOptions()))
        return made[-1]

    yield make
    for rig in made:
        rig.database.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """Return a store."""
    return make_rig()


@pytest.fixture
def small() -> BuiltImage:
    """Return an image of two layers, neither of which compresses to almost nothing."""
    noise = random.Random(7).randbytes(200_000)
    return image([layer({"etc/one": noise}), layer({"etc/two": noise[::-1]})])
