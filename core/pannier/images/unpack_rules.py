"""What a layer's archive may hold: which names, which attributes, and whose fault an error is."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError, ImageInvalid, PannierError, UnsupportedOperation
from pannier.linux.xattrs import set_xattr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.images.tar_reader import TarEntry

__all__ = ["clean_name", "explain", "set_layer_xattrs"]

_MAX_PATH: Final = 4095
_ARCHIVES_FAULT: Final = frozenset(
    {
        errno.E2BIG,
        errno.EEXIST,
        errno.EFBIG,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.EMLINK,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EOVERFLOW,
        errno.ERANGE,
    }
)
_ATTRIBUTES: Final = (b"user.", b"security.", b"trusted.", b"system.posix_acl_")
_OVERLAY_ATTRIBUTES: Final = (b"trusted.overlay.", b"user.overlay.")


def clean_name(name: bytes) -> bytes:
    """Return a member's name without ``.`` and double slashes; "" for the root itself."""
    if name.startswith(b"/") and name.strip(b"/."):
        raise ImageInvalid(f"the archive's entry {name!r} has an absolute name")
    parts = name.split(b"/")
    if b".." in parts:
        raise ImageInvalid(f"the archive's entry {name!r} leads out of its root")
    if b"\0" in name:
        raise ImageInvalid(f"the archive's entry {name!r} has a NUL in its name")
    if len(name) > _MAX_PATH:
        raise ImageInvalid(f"the archive's entry {name[:200]!r}... has a name that no path can be")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
        return b"/".join(parts)
    return name


def set_layer_xattrs(target: int | bytes, xattrs: Mapping[bytes, bytes], *, user: bool) -> None:
    """Set the attributes that a layer may have.

    :param user: whether the file is of a kind that the kernel lets have ``user.`` ones.
    """
    for key, value in xattrs.items():
        # Overlayfs would take its own attributes for its own: redirects to elsewhere, deletions.
        if not key.startswith(_ATTRIBUTES) or key.startswith(_OVERLAY_ATTRIBUTES) or b"\0" in key:
            continue
        if key.startswith(b"user.") and not user:
            continue
        try:
            set_xattr(target, key, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            if key == b"security.capability":
                raise UnsupportedOperation(
                    "the layer has file capabilities, which this filesystem cannot keep",
                    hint="put [engine] root on ext4, xfs or btrfs",
                ) from error


def explain(error: OSError, entry: TarEntry) -> PannierError:
    """Return the error to raise for a failed system call: the archive's fault, or the disk's."""
    what = f"cannot unpack {entry.name[:200]!r}: {error.strerror}"
    if error.errno in _ARCHIVES_FAULT:
        return ImageInvalid(what)
    if error.errno == errno.EPERM and entry.type in b"34":
        return UnsupportedOperation(what, hint="making devices needs the capability CAP_MKNOD")
    return DriverError(what, hint="see whether the disk is full or failing")
