"""The kernels that can be booted: Debian's packages, unpacked in a cache."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pannier.errors import DriverUnavailable, InvalidRequest, PannierError

__all__ = ["HOST", "KERNELS", "environment", "fetch_kernel", "needed"]

HOST = "host"
"""The name of the kernel that is running."""

KERNELS = {
    "6.1": r"linux-image-6\.1(\.\d+)*-\d+-amd64",
    "6.12": r"linux-image-6\.12(\.\d+)*(\+deb\d+)?(-\d+)?-amd64",
}
"""A line for each kernel: its name, and a pattern of the packages, of which the newest is taken."""

_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "depmod": "kmod",
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "file": "file",
}


def environment() -> dict[str, str]:
    """Return the environment with our own and the system's programs in the path."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{path}"}


def needed() -> str:
    """Return the program that boots, having installed what else is missing (as root, on Debian).

    :raises DriverUnavailable: something is missing and cannot be installed from here.
    """
    search = environment()["PATH"]
    missing = [
        package for program, package in _PROGRAMS.items() if not shutil.which(program, path=search)
    ]
    if missing:
        command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise DriverUnavailable(
                f"programs are missing: {', '.join(missing)}",
                hint=f"run as root: {shlex.join(command)}",
            )
        _checked(command, "the packages that boot a machine could not be installed")
    found = shutil.which("vng", path=search)
    if found is None:
        raise DriverUnavailable(
            "virtme-ng, which boots the machine, is not installed",
            hint="pip install 'pannier[matrix]'",
        )
    return found


def fetch_kernel(name: str) -> Path:
    """Return the image of a kernel of the table, unpacked with its modules beside it.

    The package is downloaded once, into ``$XDG_CACHE_HOME/pannier-kernels``, and not installed. The
    package lists are brought up to date (as root) where they have none, or one that is gone.

    :raises InvalidRequest: the table has no such kernel.
    :raises DriverUnavailable: Debian's package lists have none, or it could not be downloaded.
    """
    try:
        return _fetch(name)
    except DriverUnavailable as error:
        try:
            _update_lists()
        except DriverUnavailable:
            raise error from None
        return _fetch(name)


def _update_lists() -> None:
    if os.geteuid() != 0:
        raise DriverUnavailable("the package lists are root's", hint="run apt-get update as root")
    _checked(["apt-get", "update", "-qq"], "the package lists could not be brought up to date")


def _fetch(name: str) -> Path:
    package = _newest_package(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    cache /= "pannier-kernels"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / package
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _unpack(package, cache, folder)
    return folder / "boot" / f"vmlinuz-{package.removeprefix('linux-image-')}"


def _newest_package(name: str) -> str:
    pattern = KERNELS.get(name)
    if pattern is None:
        raise InvalidRequest(
            f"there is no kernel {name!r}", hint=f"kernels: {', '.join((HOST, *KERNELS))}"
        )
    listed = _checked(
        ["apt-cache", "search", "--names-only", "^linux-image-.*-amd64$"],
        "the package lists could not be read",
    )
    names = [line.split(" ")[0] for line in listed.splitlines()]
    found = [one for one in names if re.fullmatch(pattern, one)]
    if not found:
        raise DriverUnavailable(
            f"no package of the kernel {name} is known here", hint="try apt-get update"
        )
    return max(found, key=lambda one: [int(number) for number in re.findall(r"\d+", one)])


def _unpack(package: str, cache: Path, folder: Path) -> None:
    """Download a kernel package and unpack it; it appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=cache) as name:
        stage = Path(name)
        download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", package]
        _checked(download, f"{package} could not be downloaded", folder=stage)
        (archive,) = stage.glob("*.deb")
        root = stage / "root"
        _checked(["dpkg-deb", "-x", str(archive), str(root)], f"{package} could not be unpacked")
        release = package.removeprefix("linux-image-")
        _checked(["depmod", "-b", str(root), release], f"{package}'s modules are in disorder")
        root.rename(folder)


def _checked(command: list[str], failure: str, folder: Path | None = None) -> str:
    """Run a command; return what it prints."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DriverUnavailable(f"{failure}: {error}") from error
    if done.returncode:
        raise _failed(failure, done)
    return done.stdout


def _failed(failure: str, done: subprocess.CompletedProcess[str]) -> PannierError:
    said = (done.stderr or done.stdout).strip().splitlines()
    return DriverUnavailable(f"{failure}: {said[-1] if said else f'status {done.returncode}'}")
