"""A virtual machine over this very root filesystem, with a kernel of its own.

The guest sees this machine's files read-only (with a writable layer over /usr, /var and the like
that is lost), and these to write to: the cell's folder, and ``$TMPDIR`` on an ext4 disk of its own,
so that overlays and extended attributes work there; the disk also has copies of what Python reads
(:mod:`pannier.matrix.trees`). No KVM is needed: the machine is emulated where
there is none, and boots in half a minute.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.errors import DriverUnavailable
from pannier.matrix.kernels import environment, needed
from pannier.matrix.trees import TREES, make_disk, trees_to_copy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CONSOLE", "GUEST", "KERNEL_LOG", "Groups", "Machine", "MachineFailed", "accelerated"]

CONSOLE = "console.log"
"""What the command prints, in the cell's folder."""

KERNEL_LOG = "kernel.log"
"""What the kernel prints, there as well."""

GUEST = "PANNIER_MATRIX_GUEST"
"""Set in a guest: a machine without hardware of its own, whose times say nothing."""

_KVM_CREATE_VM = 0xAE01
"""linux/kvm.h"""

_MODULES = """\
virtio_blk ext4 loop overlay btrfs bridge veth macvlan
nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_ipv4 nft_fib_ipv6""".replace("\n", " ")
"""Loaded before the command runs, which would wait long for each in an emulated machine."""


class Groups(StrEnum):
    """How control groups are mounted in the guest."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"


_V1 = """\
umount -l /sys/fs/cgroup 2>/dev/null
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
tail -n +2 /proc/cgroups | while read -r name _ _ enabled; do
  [ "$enabled" = 1 ] || continue
  mkdir "/sys/fs/cgroup/$name"
  mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" || rmdir "/sys/fs/cgroup/$name"
done
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
"""

_MOUNT_GROUPS = {
    Groups.V1: _V1,
    Groups.V2: "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup\n",
    Groups.HYBRID: _V1
    + "mkdir /sys/fs/cgroup/unified\nmount -t cgroup2 none /sys/fs/cgroup/unified\n",
}

_GUEST = """\
#!/bin/sh
exec > {output}/{console} 2>&1
modprobe -a {modules} || true
{groups}
mount -t ext4 /dev/vda /mnt || exit 1
mkdir -p /mnt/tmp
for tree in {trees}; do mount --bind "/mnt/{copies}$tree" "$tree" || exit 1; done
cd {directory}
export PATH={path} TMPDIR=/mnt/tmp PYTHONDONTWRITEBYTECODE=1
export HYPOTHESIS_STORAGE_DIRECTORY=/mnt/hypothesis {variables}
export {guest}=1
{command} < /dev/null
echo $? > {output}/status.new
mv {output}/status.new {output}/status
"""


class MachineFailed(DriverUnavailable):
    """The machine went down, or did not end in time, before the command had a status."""


def accelerated(processors: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> bool:
    """Whether KVM runs any kernel here: the processor has what it takes, and a machine can be made.

    The device alone does not say so: where it stands on no virtualization of the processor's own,
    as in some virtual machines, it runs only kernels that were made for it.
    """
    try:
        if not re.search(r"^flags\s*:.*\b(vmx|svm)\b", processors.read_text(), re.MULTILINE):
            return False
        with device.open("r+b", buffering=0) as kvm:
            os.close(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to boot.

    :param memory: of the guest, as qemu writes it.
    :param disk: MiB of the scratch disk.
    :param timeout: seconds from the boot to the command's end.
    """

    kernel: Path
    groups: Groups = Groups.V2
    cpus: int = 2
    memory: str = "2G"
    disk: int = 4096
    timeout: float = 1800.0

    def run(
        self,
        command: Sequence[str],
        output: Path,
        variables: dict[str, str],
        *,
        printing: int = 1,
    ) -> int:
        """Boot, run *command* in this folder there, and return its exit status.

        What it prints is printed here while it runs, and kept in *output* with the kernel's log.

        :param variables: for the command's environment, besides ours.
        :param printing: the descriptor that it is printed to.
        :raises MachineFailed: it panicked, hung, or did not boot; the end of its log is said.
        """
        boot = needed()
        for stale in ("status", "status.new", CONSOLE, KERNEL_LOG):
            (output / stale).unlink(missing_ok=True)
        script = output / "guest.sh"
        trees = trees_to_copy(Path.cwd(), output)
        script.write_text(self._script(command, output, variables, trees))
        slowly = () if accelerated() else ("--disable-kvm",)
        with self._scratch(trees) as disk, (output / KERNEL_LOG).open("w+b") as log:
            # fmt: off
            machine = subprocess.Popen(
                [boot, "--run", self.kernel, "--force-9p", *slowly, "--user", "root",
                 "--cpus", str(self.cpus), "--memory", self.memory, "--disk", disk,
                 "--rwdir", output, "--append", "panic=-1", "--verbose",
                 "--", f"sh {shlex.quote(str(script))}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=environment(),
            )
            # fmt: on
            try:
                return self._watch(machine, output, printing)
            finally:
                # Its own session: the emulator goes with it, and nothing else.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(machine.pid, signal.SIGKILL)
                machine.wait()

    def _script(
        self,
        command: Sequence[str],
        output: Path,
        variables: dict[str, str],
        trees: Sequence[Path],
    ) -> str:
        passed = {key: value for key, value in os.environ.items() if key.startswith("PANNIER_")}
        return _GUEST.format(
            output=shlex.quote(str(output)),
            console=CONSOLE,
            modules=_MODULES,
            groups=_MOUNT_GROUPS[self.groups],
            trees=shlex.join(map(str, trees)),
            copies=TREES,
            directory=shlex.quote(str(Path.cwd())),
            path=shlex.quote(f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"),
            variables=" ".join(
                f"{key}={shlex.quote(value)}" for key, value in (passed | variables).items()
            ),
            guest=GUEST,
            command=shlex.join(command),
        )

    @contextlib.contextmanager
    def _scratch(self, trees: Sequence[Path]) -> Iterator[Path]:
        """Make a disk, and take it away in the end."""
        with tempfile.TemporaryDirectory(prefix="pannier-machine-") as folder:
            disk = Path(folder) / "disk"
            make_disk(disk, self.disk, trees)
            yield disk

    def _watch(self, machine: subprocess.Popen[bytes], output: Path, printing: int) -> int:
        """Print what the guest prints until it has a status."""
        deadline = time.monotonic() + self.timeout
        position = 0
        while True:
            ended = machine.poll() is not None
            status = output / "status"
            done = status.exists()
            position = _pass_on(output / CONSOLE, position, printing)
            if done:
                return int(status.read_text())
            if ended:
                raise MachineFailed(
                    f"the machine went down before the command had ended:\n{_end_of(output)}"
                )
            if time.monotonic() > deadline:
                raise MachineFailed(
                    f"the command did not end within {self.timeout:.0f} s:\n{_end_of(output)}"
                )
            # The guest's writes come through 9p, about which nothing here is notified.
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.wait(0.5)


def _end_of(output: Path) -> str:
    return (output / KERNEL_LOG).read_text(errors="replace")[-3000:]


def _pass_on(path: Path, position: int, descriptor: int) -> int:
    """Copy what was appended to a file since *position*; return the new one."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(position)
        sys.stdout.flush()
        with open(descriptor, "wb", closefd=False) as out:
            out.write(file.read())
        return file.tell()
    return position
