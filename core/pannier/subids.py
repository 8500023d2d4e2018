"""Subordinate ids: what ``[engine] userns_remap`` means, from subuid(5) and subgid(5)."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

from pannier.drivers.base import IdMap, IdMapping
from pannier.errors import ConfigError

__all__ = ["parse_remap"]

_HINT = 'write userns_remap = "100000:100000:65536" or the name of a user in /etc/subuid'


def parse_remap(
    text: str, *, subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")
) -> IdMap | None:
    """Return the id map that *text* asks for; None where it is empty.

    :param text: ``uid:gid:size`` (the host's first uid and gid, and how many), ``user`` or
        ``user:group`` with ranges in the two files, or ``default`` for the user ``dockremap``.
    :raises ConfigError: it is malformed, or the user has no ranges.
    """
    if not text:
        return None
    parts = text.split(":")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        uid, gid, size = (int(part) for part in parts)
        if not (size > 0 and uid > 0 and gid > 0 and max(uid, gid) + size < 2**32):
            raise ConfigError(f"userns_remap {text!r} is out of range", hint=_HINT)
        return IdMap((IdMapping(0, uid, size),), (IdMapping(0, gid, size),))
    user = "dockremap" if text == "default" else parts[0]
    group = parts[1] if len(parts) == 2 else user
    if len(parts) > 2 or not user:
        raise ConfigError(f"userns_remap {text!r} is malformed", hint=_HINT)
    return IdMap(_ranges(subuid, user, _uid(user)), _ranges(subgid, group, _gid(group)))


def _uid(name: str) -> str:
    try:
        return str(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return ""


def _gid(name: str) -> str:
    try:
        return str(grp.getgrnam(name).gr_gid)
    except KeyError:
        return ""


def _ranges(path: Path, name: str, number: str) -> tuple[IdMapping, ...]:
    found: list[IdMapping] = []
    inside = 0
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"userns_remap: {path} cannot be read: {error}", hint=_HINT) from error
    for line in lines:
        owner, _, rest = line.partition(":")
        start, _, size = rest.partition(":")
        if owner in {name, number} and owner and start.isdecimal() and size.isdecimal():
            found.append(IdMapping(inside, int(start), int(size)))
            inside += int(size)
    if not found:
        raise ConfigError(
            f"userns_remap: {name!r} has no range in {path}",
            hint=f"add a line: echo '{name}:100000:65536' >> {path}",
        )
    return tuple(found)
