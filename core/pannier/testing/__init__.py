"""The driver conformance kit: what a driver's author runs to know whether the driver is right.

``pip install 'pannier[testing]'``; see :mod:`pannier.testing.base` for how a class is used, and
``docs/conformance.md``. Nothing in Pannier itself imports this package but the command that runs
the kit.
"""

import pkgutil

import pytest

# A failed assertion of the kit is explained as one of a test module is. Before the import.
pytest.register_assert_rewrite(
    *(f"{__name__}.{item.name}" for item in pkgutil.iter_modules(__path__))
)

from pannier.testing.base import (  # noqa: E402 - see above
    Conformance,
    Opened,
    announced,
    mandatory,
    refuses,
    requires,
)
from pannier.testing.log import LogConformance  # noqa: E402
from pannier.testing.network import NetworkConformance  # noqa: E402
from pannier.testing.resources import ResourceConformance  # noqa: E402
from pannier.testing.runtime import RuntimeConformance  # noqa: E402
from pannier.testing.runtime_root import make_host_root  # noqa: E402
from pannier.testing.storage import StorageConformance  # noqa: E402

__all__ = [
    "Conformance",
    "LogConformance",
    "NetworkConformance",
    "Opened",
    "ResourceConformance",
    "RuntimeConformance",
    "StorageConformance",
    "announced",
    "make_host_root",
    "mandatory",
    "refuses",
    "requires",
]
