"""The options of ``--tmpfs``, those of mount(8) that a tmpfs takes."""

from __future__ import annotations

import re

from pannier.engine.model import MountKind, MountSpec
from pannier.errors import InvalidRequest

__all__ = ["parse_tmpfs"]

_FLAGS = frozenset(
    {
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "private",
        "relatime",
        "remount",
        "ro",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "rw",
        "shared",
        "slave",
        "strictatime",
        "suid",
        "sync",
        "unbindable",
    }
)
_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"})
_SIZE = re.compile(r"(\d{1,18})([kmgtKMGT]?)[bB]?")
_PERCENT = re.compile(r"\d{1,3}%")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_tmpfs(destination: str, options: str) -> MountSpec:
    """Parse ``rw,noexec,size=64m,mode=1777``; the text itself is kept for ``inspect``."""
    size = mode = 0
    read_only = False
    others = []
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if key not in (_VALUES if equals else _FLAGS):
            raise InvalidRequest(f'invalid tmpfs option "{option}"')
        if key == "size" and not _PERCENT.fullmatch(value):
            size = _size(option, value)
        elif key == "mode":
            mode = _mode(option, value)
        elif key in {"ro", "rw"}:
            read_only = key == "ro"
        else:
            others.append(option)
    return MountSpec(
        MountKind.TMPFS,
        destination,
        read_only=read_only,
        tmpfs_size=size,
        tmpfs_mode=mode,
        tmpfs_options=tuple(others),
        mode=options,
    )


def _size(option: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise InvalidRequest(f'invalid tmpfs option "{option}"')
    return int(match[1]) << _UNITS[match[2].lower()]


def _mode(option: str, value: str) -> int:
    if re.fullmatch(r"[0-7]{1,5}", value) is None or int(value, 8) > 0o7777:
        raise InvalidRequest(f'invalid tmpfs option "{option}"')
    return int(value, 8)
