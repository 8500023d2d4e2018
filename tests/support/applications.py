"""Images of real servers, from Debian's packages, built by the engine under test itself.

Debian's mirror is asked for what is not in the folder yet that PANNIER_REAL_APPS names: a minbase
by debootstrap, and the packages of each image. The builds then need no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

__all__ = ["APPLICATIONS", "KEPT", "build_images", "why_not", "why_not_kept"]

APPLICATIONS = Path(__file__).parent.parent / "e2e" / "applications"
_VARIABLE = "PANNIER_REAL_APPS"
KEPT = Path(os.environ[_VARIABLE]) if os.environ.get(_VARIABLE) else None
"""The folder that keeps what was downloaded."""

_PACKAGES = {
    "nginx": ("nginx-light",),
    "postgresql": ("postgresql",),
    "redis": ("redis-server",),
    "python": ("python3-minimal", "python3-psycopg2", "python3-redis"),
}


def why_not_kept() -> str:
    """Return what is missing for clients that are downloaded; empty where nothing is."""
    if KEPT is None:
        return (
            f"takes minutes and downloads: set {_VARIABLE} to a folder that may keep what is"
            " downloaded (it is made where it is missing), and run pytest tests/e2e -k real"
        )
    return ""


def why_not() -> str:
    """Return what is missing for real applications; empty where nothing is."""
    if reason := why_not_kept():
        return reason
    if shutil.which("debootstrap") is None:
        return "needs debootstrap: apt-get install debootstrap"
    return ""


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}\n{said}")


def _download(folder: Path) -> None:
    """Fill a folder with a minbase and, for each image, the packages that it takes."""
    if (folder / "minbase.tar").exists():
        return
    root = folder / "root"
    _run("debootstrap", "--variant=minbase", "bookworm", str(root))
    # Without lists apt installs what it is given and looks for nothing on the network.
    without = "--exclude=./var/lib/apt/lists/*"
    archive = str(folder / "part.tar")
    _run("tar", "-C", str(root), "--numeric-owner", without, "-cf", archive, ".")
    apt = ("chroot", str(root), "apt-get", "-qq")
    _run(*apt, "clean")  # of what debootstrap has installed
    _run(*apt, "update")
    for image, packages in _PACKAGES.items():
        _run(*apt, "install", "-y", "--no-install-recommends", "--download-only", *packages)
        (folder / image).mkdir(exist_ok=True)
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            shutil.move(package, folder / image / package.name)
    shutil.rmtree(root)
    (folder / "part.tar").rename(folder / "minbase.tar")


def build_images(daemon: Daemon, work: Path) -> Iterator[str]:
    """Build the images; yields the name of each.

    :param work: a folder for the builds' contexts.
    """
    assert KEPT is not None, why_not()
    KEPT.mkdir(parents=True, exist_ok=True)
    _download(KEPT)
    daemon.cli("import", str(KEPT / "minbase.tar"), "debian:minbase")
    for image in _PACKAGES:
        context = work / image
        shutil.copytree(APPLICATIONS / "images" / image, context)
        shutil.copytree(KEPT / image, context / "packages")
        daemon.cli("build", "-t", f"real/{image}", str(context), timeout=600)
        shutil.rmtree(context)
        yield f"real/{image}"
