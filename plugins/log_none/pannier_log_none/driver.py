"""Output that only who is attached ever sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.base import NoConfig
from pannier.drivers.log import LogDriver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.base import DriverContext

__all__ = ["NoneDriver"]


class NoneDriver(LogDriver):
    """Keeps nothing."""

    id: ClassVar[str] = "none"
    config_type: ClassVar[type[Any]] = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:
        """Work everywhere."""

    def __init__(self, context: DriverContext, config: NoConfig) -> None:
        """There is no state."""

    def check(self, options: Mapping[str, str]) -> None:
        """Accept all, as Docker does: nothing comes of it."""

    def form(self, options: Mapping[str, str]) -> None:
        """Have nothing written."""
