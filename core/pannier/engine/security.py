"""``--security-opt``: seccomp profiles and no-new-privileges."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest
from pannier.linux.seccomp_default import default_profile
from pannier.linux.seccomp_docker import from_docker_profile
from pannier.linux.seccomp_rules import ProfileError

if TYPE_CHECKING:
    from pannier.drivers import oci

__all__ = ["Security", "parse", "seccomp"]

_IGNORED = ("apparmor", "label", "systempaths")


@dataclass(frozen=True, slots=True)
class Security:
    """What the options say.

    :param seccomp: a profile's JSON text, ``unconfined``, or empty for the default.
    """

    seccomp: str = ""
    no_new_privileges: bool = False


def parse(options: tuple[str, ...]) -> Security:
    """Read ``--security-opt``s.

    AppArmor profiles and SELinux labels are accepted where the host has no use for them.

    :raises InvalidRequest: one is not known.
    """
    profile, no_new_privileges = "", False
    for option in options:
        # Old clients separate by a colon.
        separator = "=" if "=" in option else ":"
        key, _, value = option.partition(separator)
        if key == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise InvalidRequest(f'invalid --security-opt: "{option}"')
            no_new_privileges = value != "false"
        elif key == "seccomp" and value:
            profile = "" if value == "builtin" else value
        elif key not in _IGNORED or not value:
            raise InvalidRequest(
                f'invalid --security-opt: "{option}"',
                hint="there are seccomp=FILE|unconfined and no-new-privileges",
            )
    return Security(profile, no_new_privileges)


def seccomp(profile: str, capabilities: tuple[str, ...]) -> oci.Seccomp | None:
    """Return the filter of a profile (see :class:`Security`); None for no confinement.

    The answer is shared: it must not be changed.

    :raises InvalidRequest: the profile is malformed.
    """
    return None if profile == "unconfined" else _compiled(profile, capabilities)


@functools.lru_cache(maxsize=32)
def _compiled(profile: str, capabilities: tuple[str, ...]) -> oci.Seccomp:
    if not profile:
        return default_profile(capabilities)
    try:
        return from_docker_profile(profile, capabilities)
    except ProfileError as error:
        raise InvalidRequest(
            f"the seccomp profile is not valid: {error}",
            hint="--security-opt seccomp=FILE takes a profile in Docker's or OCI's form",
        ) from error
