"""Mount options: from the words of mount(8) and the OCI specification to the kernel's flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.linux import mounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers import oci

__all__ = ["MountOptions", "is_bind", "known_options", "parse_options"]

_SET = {
    "ro": mounts.MOUNT_ATTR_RDONLY,
    "nosuid": mounts.MOUNT_ATTR_NOSUID,
    "nodev": mounts.MOUNT_ATTR_NODEV,
    "noexec": mounts.MOUNT_ATTR_NOEXEC,
    "nodiratime": mounts.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": mounts.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEAR = {
    "rw": mounts.MOUNT_ATTR_RDONLY,
    "suid": mounts.MOUNT_ATTR_NOSUID,
    "dev": mounts.MOUNT_ATTR_NODEV,
    "exec": mounts.MOUNT_ATTR_NOEXEC,
    "diratime": mounts.MOUNT_ATTR_NODIRATIME,
    "symfollow": mounts.MOUNT_ATTR_NOSYMFOLLOW,
}
_ACCESS_TIMES = {
    "relatime": 0,
    "noatime": mounts.MOUNT_ATTR_NOATIME,
    "strictatime": mounts.MOUNT_ATTR_STRICTATIME,
    "atime": 0,
    "norelatime": 0,
    "nostrictatime": 0,
}
_PROPAGATION = {
    "private": mounts.MS_PRIVATE,
    "slave": mounts.MS_SLAVE,
    "shared": mounts.MS_SHARED,
    "unbindable": mounts.MS_UNBINDABLE,
}
_NOTHING = {"defaults", "async", "nofail", "nomand", "noiversion", "loud", "silent"}
_FILESYSTEMS = ("dirsync", "lazytime", "mand", "nolazytime", "sync")
"""What the kernel takes with every new filesystem, and a bind does not take."""

_REFUSED = {"remount"}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Parsed options.

    :param set: attributes of the mount to set; *recursive_set* of those below it too.
    :param propagation: None where nothing was said.
    :param idmap: the mount's ids are mapped; *recursive_idmap* those of the mounts below too.
    :param data: the filesystem's own options; None for one without a value.
    """

    bind: bool = False
    recursive: bool = False
    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int | None = None
    recursive_propagation: bool = False
    copy_up: bool = False
    idmap: bool = False
    recursive_idmap: bool = False
    data: tuple[tuple[str, bytes | None], ...] = ()


def is_bind(mount: oci.Mount) -> bool:
    """Whether a mount shows a path of the host's."""
    options = mount.get("options", ())
    return mount.get("type") == "bind" or "bind" in options or "rbind" in options


def parse_options(options: Iterable[str], destination: str) -> MountOptions:
    """Sort the options of the mount at *destination*; of contradictions the last one counts.

    :raises UnsupportedOperation: an option that is not offered.
    :raises InvalidRequest: an option that is malformed.
    """
    bind = recursive = recursive_propagation = copy_up = idmap = recursive_idmap = False
    plain, deep = _Attributes(), _Attributes()
    propagation: int | None = None
    data: list[tuple[str, bytes | None]] = []
    for option in options:
        base = option.removeprefix("r") if option.startswith("r") else option
        if option in ("bind", "rbind"):
            bind, recursive = True, recursive or option == "rbind"
        elif option in _PROPAGATION or base in _PROPAGATION:
            propagation = _PROPAGATION.get(option) or _PROPAGATION[base]
            recursive_propagation = option not in _PROPAGATION
        elif option == "tmpcopyup":
            copy_up = True
        elif option in ("idmap", "ridmap"):
            idmap, recursive_idmap = True, recursive_idmap or option == "ridmap"
        elif option in _REFUSED:
            raise UnsupportedOperation(f"mount {destination}: the option {option!r} is not offered")
        elif plain.take(option) or (base != option and deep.take(base)) or option in _NOTHING:
            continue
        else:
            data.append(_datum(option, destination))
    return MountOptions(
        bind=bind,
        recursive=recursive,
        set=plain.set,
        clear=plain.clear,
        recursive_set=deep.set,
        recursive_clear=deep.clear,
        propagation=propagation,
        recursive_propagation=recursive_propagation,
        copy_up=copy_up,
        idmap=idmap,
        recursive_idmap=recursive_idmap,
        data=tuple(data),
    )


def known_options() -> list[str]:
    """Return the options that are not one filesystem's own, sorted."""
    attributes = [*_SET, *_CLEAR, *_ACCESS_TIMES]
    return sorted(
        {
            *_FILESYSTEMS,
            *("bind", "rbind", "tmpcopyup", "idmap", "ridmap"),
            *_NOTHING,
            *_PROPAGATION,
            *(f"r{name}" for name in _PROPAGATION),
            *attributes,
            *(f"r{name}" for name in attributes),
        }
    )


class _Attributes:
    def __init__(self) -> None:
        self.set = 0
        self.clear = 0

    def take(self, option: str) -> bool:
        if option in _SET:
            self.set |= _SET[option]
            self.clear &= ~_SET[option]
        elif option in _CLEAR:
            self.clear |= _CLEAR[option]
            self.set &= ~_CLEAR[option]
        elif option in _ACCESS_TIMES:
            # The kernel takes these as one field, which has to be cleared to be set.
            self.set = self.set & ~mounts.MOUNT_ATTR__ATIME | _ACCESS_TIMES[option]
            self.clear |= mounts.MOUNT_ATTR__ATIME
        else:
            return False
        return True


def _datum(option: str, destination: str) -> tuple[str, bytes | None]:
    key, equals, value = option.partition("=")
    if not key or "\0" in option:
        raise InvalidRequest(f"mount {destination}: malformed option {option!r}")
    return key, value.encode() if equals else None
