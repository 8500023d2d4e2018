"""The network kit suits a driver of another kind: on a link of the host, with a gateway outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.errors import DriverUnavailable
from pannier.testing.network import UPLINK, NetworkConformance
from support.reference_network import ReferenceNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import ClassVar

pytest_plugins = "pannier.testing.plugin"


def missing() -> str:
    """Say why the driver cannot be used here; nothing where it can."""
    try:
        ReferenceNetwork.probe(DriverContext(Path(), Path()), NoConfig())
    except DriverUnavailable as error:
        return f"{error}: {error.hint}"
    return ""


pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


class TestReference(NetworkConformance):
    """A driver that keeps the contract with macvlan links, and publishes nothing."""

    network_options: ClassVar[Mapping[str, str]] = {"parent": UPLINK}

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], ReferenceNetwork]:
        return ReferenceNetwork
