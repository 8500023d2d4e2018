"""The driver conformance kit: what a driver's author runs to know whether the driver is right.

``pip install 'pannier[testing]'``; see :mod:`pannier.testing.base` for how a class is used, and
``docs/conformance.md``. Nothing in Pannier itself imports this package but the command that runs
the kit.
"""

from pannier.testing.base import Conformance, Opened, mandatory, refuses, requires

__all__ = ["Conformance", "Opened", "mandatory", "refuses", "requires"]
