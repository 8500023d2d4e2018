"""Folders made inside a container's root, through descriptors."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest
from pannier.linux.paths import open_in_root

if TYPE_CHECKING:
    from pannier.drivers.base import IdMap

__all__ = ["ensure_folder"]


def ensure_folder(root: int, path: str, idmap: IdMap | None) -> None:
    """Make a folder inside the root *root*, and those above it, where they are missing.

    They belong to the container's root user, mode 0755.

    :raises InvalidRequest: something that is no folder is in the way.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.close(open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
        return
    parts = [part for part in path.split("/") if part not in ("", ".")]
    parent = os.dup(root)
    try:
        for index, name in enumerate(parts):
            here = "/".join(parts[: index + 1])
            try:
                descriptor = open_in_root(root, here, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=parent)
                if idmap is not None:
                    owner = (idmap.host_uid(0), idmap.host_gid(0))
                    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
                descriptor = open_in_root(root, here, os.O_PATH | os.O_DIRECTORY)
            os.close(parent)
            parent = descriptor
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidRequest(f"Cannot mkdir: {path} is not a directory") from error
    finally:
        os.close(parent)
