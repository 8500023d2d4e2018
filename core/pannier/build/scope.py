"""The arguments of one stage: which are declared, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.images.oci import Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Arguments", "platform_arguments"]

PROXIES: Final = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""May be given without being declared, and then leave no trace in the image's history."""


def platform_arguments(target: Platform) -> dict[str, str]:
    """Return the arguments that say for which platform, and on which, is built."""
    found = {}
    for prefix, platform in (("TARGET", target), ("BUILD", Platform.native())):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return found


class Arguments:
    """Arguments in the scope of one stage.

    :param given: what ``--build-arg`` gave.
    :param globals: the values of the ARGs before the first FROM, and of the platform.
    :param used: takes the names of given arguments that something declared.
    """

    def __init__(
        self, given: Mapping[str, str], globals: Mapping[str, str], used: set[str]
    ) -> None:
        self._given = given
        self._globals = globals
        self._used = used
        self._declared: dict[str, str | None] = {}

    def declare(self, name: str, default: str | None) -> None:
        """Bring an argument into scope."""
        self._declared[name] = default
        self._used.add(name)

    def values(self, env: Iterable[str]) -> dict[str, str]:
        """Return the arguments that have a value, and that no environment variable hides."""
        hidden = {entry.partition("=")[0] for entry in env}
        found = {
            name: value
            for name, value in self._given.items()
            if name in PROXIES and name not in hidden
        }
        for name, default in self._declared.items():
            value = self._given.get(name, default)
            if value is None:
                value = self._globals.get(name)
            if value is not None and name not in hidden:
                found[name] = value
        return found

    def recorded(self, env: Iterable[str]) -> list[str]:
        """Return ``name=value`` of what a command's history and cache key hold, sorted."""
        return sorted(
            f"{name}={value}"
            for name, value in self.values(env).items()
            if name in self._declared or name not in PROXIES
        )

    def variables(self, env: Iterable[str]) -> dict[str, str]:
        """Return what ``$name`` in an instruction may name: arguments and environment."""
        env = tuple(env)
        return {**self.values(env), **dict(entry.partition("=")[::2] for entry in env)}
