"""Which mount a path is on, and whether mounts spread from there (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Propagation", "propagation_of"]

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Propagation:
    """A mount's place in the propagation of mounts: mount_namespaces(7).

    :param point: where it is mounted.
    :param shared: it passes mounts on to its peers, and takes them.
    :param slave: it takes mounts from another.
    """

    point: str
    shared: bool
    slave: bool


def propagation_of(path: str, mountinfo: str | Path = "/proc/self/mountinfo") -> Propagation:
    """Return what is said of the mount that a path, its links followed, is on.

    :raises OSError: the table cannot be read.
    """
    real = os.fsencode(os.path.realpath(path))
    found, length = Propagation("/", shared=False, slave=False), -1
    for line in Path(mountinfo).read_bytes().splitlines():
        fields = line.split(b" ")
        point = _OCTAL.sub(lambda match: bytes((int(match[1], 8),)), fields[4])
        inside = point in (b"/", real) or real.startswith(point + b"/")
        # Of several on one point the last one hides the others.
        if inside and len(point) >= length:
            tags = fields[6 : fields.index(b"-")]
            shared = any(tag.startswith(b"shared:") for tag in tags)
            slave = any(tag.startswith(b"master:") for tag in tags)
            found, length = Propagation(os.fsdecode(point), shared, slave), len(point)
    return found
