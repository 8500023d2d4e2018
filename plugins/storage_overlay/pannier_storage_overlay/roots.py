"""The root folder of a layer, which shows as the root of the union.

Of the layers' roots the top one's owner, mode and attributes are what the union shows; an image
layer's archive seldom says anything of them. So each root takes them from the one below.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pannier.linux.copying import copy_metadata
from pannier.linux.trees import DIRECTORY
from pannier.linux.xattrs import read_xattrs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["new_root", "take_metadata"]


def new_root(folder: Path, below: str | None) -> int:
    """Make the root folder of a layer, and return a descriptor of it, which the caller closes.

    :param below: the root of the layer below; None for the lowest.
    """
    folder.mkdir(mode=0o755)
    descriptor = os.open(folder, DIRECTORY)
    if below is None:
        os.fchmod(descriptor, 0o755)
    else:
        take_metadata(descriptor, below)
    return descriptor


def take_metadata(root: int, below: str) -> None:
    """Give a root folder what the root of the layer below has, but for overlayfs' own marks."""
    descriptor = os.open(below, DIRECTORY)
    try:
        attributes = {
            name: value
            for name, value in read_xattrs(descriptor).items()
            if not name.startswith(b"trusted.overlay.")
        }
        copy_metadata(attributes, root, os.fstat(descriptor))
    finally:
        os.close(descriptor)
