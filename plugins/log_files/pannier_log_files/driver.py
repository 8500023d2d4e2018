"""Output in files, which ``logs`` reads back: Docker's two drivers of the kind.

Both keep the one form of file that there is (:mod:`pannier.drivers.logfile`); their names, options
and limits are Docker's, so that what was written for it holds here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.log import LogCapability, LogDriver, LogForm, LogSource
from pannier.drivers.logoptions import attributes, check_tag, refuse_unknown, rotation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from pannier.drivers.base import DriverContext

__all__ = ["JsonFile", "JsonFileConfig", "Local", "LocalConfig"]

_ROTATION = ("max-size", "max-file", "compress")
_TEXTS = ("labels", "labels-regex", "env", "env-regex", "tag")


@dataclass(frozen=True)
class JsonFileConfig:
    """The table ``[log.json-file]``: what holds for containers whose options do not say.

    :param max_size: as ``10m``; empty for no limit.
    :param max_file: how many files are kept.
    """

    max_size: str = ""
    max_file: int = 1

    def __post_init__(self) -> None:
        """Refuse what no container could be started with."""
        rotation({}, self.max_size, self.max_file)


@dataclass(frozen=True)
class LocalConfig(JsonFileConfig):
    """The table ``[log.local]``: likewise."""

    max_size: str = "20m"
    max_file: int = 5


class _Files(LogDriver):
    """What the two have in common."""

    capabilities: ClassVar[AbstractSet[LogCapability]] = frozenset({LogCapability.READ})
    options: ClassVar[tuple[str, ...]]

    @classmethod
    def probe(cls, context: DriverContext, config: JsonFileConfig) -> None:
        """Work everywhere: the files are written by containers' monitors."""

    def __init__(self, context: DriverContext, config: JsonFileConfig) -> None:  # noqa: ARG002 - the engine keeps the files
        self._config = config

    def check(self, options: Mapping[str, str]) -> None:
        """Check names and values."""
        refuse_unknown(self.id, options, self.options)
        self.form(options)
        attributes(options, LogSource("", ""))
        check_tag(options.get("tag", ""), strict=False)

    def form(self, options: Mapping[str, str]) -> LogForm:
        """Return when a new file is begun, and how many are kept."""
        return rotation(options, self._config.max_size, self._config.max_file)


class JsonFile(_Files):
    """One file without a limit, unless the options say otherwise."""

    id: ClassVar[str] = "json-file"
    priority: ClassVar[int] = 100
    config_type: ClassVar[type[JsonFileConfig]] = JsonFileConfig
    options = (*_ROTATION, *_TEXTS)


class Local(_Files):
    """At most five files of 20 MB each, unless the options say otherwise."""

    id: ClassVar[str] = "local"
    priority: ClassVar[int] = 10
    config_type: ClassVar[type[LocalConfig]] = LocalConfig
    options = _ROTATION
