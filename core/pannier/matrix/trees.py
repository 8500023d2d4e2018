"""What a guest has on its own disk: the files that Python reads at every start.

A guest reads this machine's files through 9p, where each of the thousands of lookups and reads
that an interpreter's start is made of costs an emulated machine milliseconds. What is copied onto
its disk, and bound over the same paths, it reads itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.errors import DriverUnavailable
from pannier.matrix.kernels import environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["TREES", "make_disk", "trees_to_copy"]

TREES = "trees"
"""The folder on the disk."""

_LARGEST = 1 << 30
"""Bytes of a tree that is copied; a larger one is read through 9p."""

_PATIENCE = 300


def trees_to_copy(folder: Path, kept: Path, largest: int = _LARGEST) -> list[Path]:
    """Return what a command run in *folder* reads most: Python, its path, and the folder's own.

    Hidden folders are not among them, nor any that holds *kept*, which the guest writes to.

    :param largest: bytes; what is larger is left out.
    """
    paths = {Path(entry).resolve() for entry in sys.path if entry}
    paths |= {Path(os.path.realpath(sys.executable)), Path(sysconfig.get_path("stdlib")).resolve()}
    paths |= {one.resolve() for one in folder.glob("[!.]*/")}
    wanted = [
        path
        for path in sorted(paths)
        if path.exists() and not kept.resolve().is_relative_to(path) and _is_small(path, largest)
    ]
    return [path for path in wanted if not any(other in path.parents for other in wanted)]


def _is_small(tree: Path, largest: int) -> bool:
    size = 0
    for path in _contents(tree):
        if not path.is_dir():
            size += path.lstat().st_size
        for top, _, names in os.walk(path):
            size += sum((Path(top) / name).lstat().st_size for name in names)
            if size > largest:
                return False
    return size <= largest


def _contents(tree: Path) -> Iterator[Path]:
    """Yield what is copied of a tree: of the standard library not what others have put there."""
    if tree != Path(sysconfig.get_path("stdlib")).resolve():
        yield tree
        return
    for child in sorted(tree.iterdir()):
        if child.name != "site-packages" or str(child) in sys.path:
            yield child


def make_disk(disk: Path, size: int, trees: Iterable[Path]) -> None:
    """Make a sparse ext4 disk with copies of some trees.

    :param size: MiB.
    :raises DriverUnavailable: there is no room for it, or no program that makes it.
    """
    stage = disk.with_name("stage")
    (stage / TREES).mkdir(parents=True)
    contents = [str(path)[1:] for tree in trees for path in _contents(tree)]
    with disk.open("wb") as file:
        file.truncate(size << 20)
    if contents:
        _run(["cp", "-a", "--reflink=auto", "--parents", "-t", str(stage / TREES), *contents])
    _run(["mkfs.ext4", "-q", "-F", "-d", str(stage), str(disk)])
    _run(["rm", "-rf", str(stage)])


def _run(command: Sequence[str]) -> None:
    try:
        # In the root, since cp makes the folders of relative paths.
        subprocess.run(
            command,
            cwd="/",
            env=environment(),
            check=True,
            timeout=_PATIENCE,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().rpartition("\n")[2]
        raise DriverUnavailable(f"a disk for the machine could not be made: {said}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise DriverUnavailable(f"a disk for the machine could not be made: {error}") from error
