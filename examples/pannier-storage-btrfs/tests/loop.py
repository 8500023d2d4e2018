"""A btrfs in a file in memory, mounted through a loop device."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def btrfs(folder: Path, size: int, *options: str) -> Iterator[Path]:
    """Make a btrfs of *size* bytes below a new folder, mount it, and take all of it away again."""
    # In memory, where each of btrfs' commits does not have to wait for a disk.
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(folder))
    try:
        image, mounted = folder / "image", folder / "mounted"
        mounted.mkdir()
        image.touch()
        os.truncate(image, size)
        run("mkfs.btrfs", "-q", *options, str(image))
        run("mount", "-t", "btrfs", "-o", "loop", str(image), str(mounted))
        try:
            mounted.chmod(0o755)
            yield mounted
        finally:
            run("umount", str(mounted))  # detaches the loop device, too
    finally:
        run("umount", "--lazy", str(folder))


def run(*command: str, data: bytes | None = None) -> str:
    """Run a command, and return its output; its complaint is the error's text."""
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{os.fsdecode(done.stdout + done.stderr)}")
    return os.fsdecode(done.stdout)


def needs(program: str, package: str) -> None:
    """Skip the test where a program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: install the package {package}")


def needs_filesystem(folder: Path) -> None:
    """Skip the test where the kernel has no btrfs, or no loop devices to mount one from."""
    # There is no such device; what the kernel does not know it says first.
    for command, complaint, missing in (
        (("mount", "-t", "btrfs", "none", str(folder)), "unknown filesystem type", "btrfs"),
        (("losetup", "--find"), "cannot find", "loop device"),
    ):
        done = subprocess.run(
            command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=False
        )
        if complaint in done.stderr:
            pytest.skip(f"the kernel has no {missing}: {done.stderr.strip()}")
