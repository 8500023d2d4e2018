"""Run a command under another kernel: a Debian kernel in a virtual machine over this very root.

``python tests/vm/boot.py --kernel 6.1 -- pytest -m root tests/plugins/cgroup_v2`` boots the newest
packaged 6.1 kernel and exits with the command's status. The guest sees this machine's files
read-only (with a writable layer over /usr, /var and the like that is lost), has cgroup v2 alone at
/sys/fs/cgroup, and these to write to:

- the folder ``--output`` of the host, as ``$PANNIER_VM_OUTPUT``: for JUnit files and the like;
- ``$TMPDIR``, on an ext4 disk of its own, so that overlays and extended attributes work there.

Needs the Debian packages in :data:`PACKAGES` (root gets them installed) and virtme-ng from PyPI.
The kernel is downloaded as a package and unpacked into a cache, not installed. No KVM is needed:
the machine is emulated, and boots in half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

__all__ = ["VmError", "fetch_kernel", "main", "run"]

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "depmod": "kmod",
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
}
"""The programs that are needed, and the Debian packages that have them."""

MODULES = "virtio_blk ext4 overlay nf_tables bridge veth"
TIMED_OUT = 124
NOT_RUN = 125

GUEST = """\
#!/bin/sh
exec > {output}/console.log 2>&1
for module in {modules}; do modprobe "$module" || true; done
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
mount -t ext4 /dev/vda /mnt || exit 1
mkdir -p /mnt/tmp
cd {directory}
export PATH={path} TMPDIR=/mnt/tmp PANNIER_VM_OUTPUT={output}
export PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/mnt/hypothesis
{command} < /dev/null
echo $? > {output}/status.new
mv {output}/status.new {output}/status
"""


class VmError(Exception):
    """The machine could not be prepared or booted."""


def cache_folder() -> Path:
    """Return where unpacked kernels are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home) / "pannier-vm"


def environment() -> dict[str, str]:
    """Return the environment with our own and the system's programs in the path."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{path}"}


def ensure_programs() -> None:
    """Install what is missing, as root; else say what to install."""
    search = environment()["PATH"]
    missing = [
        package for program, package in PACKAGES.items() if not shutil.which(program, path=search)
    ]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise VmError(f"missing programs; run as root: {shlex.join(command)}")
    subprocess.run(command, check=True, timeout=900, stdout=subprocess.DEVNULL)


def virtme() -> str:
    """Return the program that boots, beside this interpreter or in the path."""
    beside = Path(sys.executable).with_name("vng")
    found = str(beside) if beside.exists() else shutil.which("vng")
    if not found:
        raise VmError("virtme-ng is not installed: pip install virtme-ng")
    return found


def newest_package(series: str) -> str:
    """Return the newest ordinary kernel package of a series, such as ``6.1``."""
    pattern = rf"linux-image-{re.escape(series)}(\.\d+)*-\d+-amd64"
    listed = subprocess.run(
        ["apt-cache", "search", "--names-only", "^linux-image-.*-amd64$"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    names = [line.split(" ")[0] for line in listed.splitlines()]
    found = [name for name in names if re.fullmatch(pattern, name)]
    if not found:
        raise VmError(f"no kernel package of the series {series}: try apt-get update")
    return max(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def fetch_kernel(series: str) -> Path:
    """Return the image of the newest kernel of a series, unpacked with its modules beside it."""
    package = newest_package(series)
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    release = package.removeprefix("linux-image-")
    folder = cache / package
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unpack(package, release, cache, folder)
    return folder / "boot" / f"vmlinuz-{release}"


def unpack(package: str, release: str, cache: Path, folder: Path) -> None:
    """Download a kernel package and unpack it; it appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=cache) as name:
        stage = Path(name)
        download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", package]
        subprocess.run(download, cwd=stage, check=True, timeout=900, stdout=subprocess.DEVNULL)
        (archive,) = stage.glob("*.deb")
        root = stage / "root"
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True, timeout=300)
        depmod = ["depmod", "-b", str(root), release]
        subprocess.run(depmod, check=True, timeout=300, env=environment())
        root.rename(folder)


@contextlib.contextmanager
def scratch_disk(megabytes: int) -> Iterator[Path]:
    """Make a sparse ext4 disk, and take it away in the end."""
    with tempfile.TemporaryDirectory(prefix="pannier-vm-") as folder:
        disk = Path(folder) / "disk"
        with disk.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True, timeout=120, env=environment())
        yield disk


def run(
    kernel: Path,
    command: Sequence[str],
    output: Path,
    *,
    cpus: int = 2,
    memory: str = "2G",
    disk: int = 4096,
    timeout: float = 1800.0,
) -> int:
    """Boot *kernel*, run *command* in the guest, and return its exit status.

    What it prints is printed here while it runs, and kept in ``console.log`` in *output*.

    :raises VmError: the machine went down without running the command to its end.
    """
    output.mkdir(parents=True, exist_ok=True)
    for stale in ("status", "status.new", "console.log"):
        (output / stale).unlink(missing_ok=True)
    script = output / "guest.sh"
    script.write_text(
        GUEST.format(
            output=shlex.quote(str(output)),
            modules=MODULES,
            directory=shlex.quote(str(Path.cwd())),
            path=shlex.quote(f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"),
            command=shlex.join(command),
        )
    )
    with scratch_disk(disk) as image, (output / "machine.log").open("w+b") as log:
        # fmt: off
        machine = subprocess.Popen(
            [virtme(), "--run", kernel, "--force-9p", "--disable-kvm", "--user", "root",
             "--cpus", str(cpus), "--memory", memory, "--disk", image, "--rwdir", output,
             "--verbose", "--", f"sh {shlex.quote(str(script))}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=environment(),
        )
        # fmt: on
        try:
            return watch(machine, output, timeout)
        finally:
            # Its own session: the emulator goes with it, and nothing else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()


def watch(machine: subprocess.Popen[bytes], output: Path, timeout: float) -> int:
    """Print what the guest prints until it has a status."""
    deadline = time.monotonic() + timeout
    position = 0
    while True:
        ended = machine.poll() is not None
        status = output / "status"
        done = status.exists()
        position = pass_on(output / "console.log", position, sys.stdout.buffer)
        if done:
            return int(status.read_text())
        if ended:
            tail = (output / "machine.log").read_text(errors="replace")[-3000:]
            raise VmError(f"the machine went down before the command had ended:\n{tail}")
        if time.monotonic() > deadline:
            sys.stderr.write(f"the command did not end within {timeout:.0f} s\n")
            return TIMED_OUT
        # The guest's writes come through 9p, about which nothing here is notified.
        with contextlib.suppress(subprocess.TimeoutExpired):
            machine.wait(0.5)


def pass_on(path: Path, position: int, out: BinaryIO) -> int:
    """Copy what was appended to a file since *position*; return the new one."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(position)
        out.write(file.read())
        out.flush()
        return file.tell()
    return position


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], usage="%(prog)s [OPTIONS] -- COMMAND ..."
    )
    parser.add_argument("--kernel", default="6.1", help="series of the Debian kernel (6.1)")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--disk", type=int, default=4096, help="size of the scratch disk, in MiB")
    parser.add_argument("--timeout", type=float, default=1800.0, help="in seconds")
    parser.add_argument("--output", type=Path, help="folder that the guest may write to")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    # The emulator must not outlive us: end through the clean-up on this signal too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        ensure_programs()
        kernel = fetch_kernel(options.kernel)
        with tempfile.TemporaryDirectory(prefix="pannier-vm-output-") as folder:
            return run(
                kernel,
                options.command,
                (options.output or Path(folder)).absolute(),
                cpus=options.cpus,
                memory=options.memory,
                disk=options.disk,
                timeout=options.timeout,
            )
    except (VmError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
