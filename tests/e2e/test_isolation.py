"""What a container sees of the host: nothing that it was not given."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.daemon import Daemon

DEFAULT_CAPABILITIES = 0x00000000A80425FB
"""Docker's fourteen: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap."""


def inside(daemon: Daemon, script: str, *flags: str) -> str:
    """Run a shell script in a container and return its output."""
    return daemon.cli("run", "--rm", *flags, "busybox", "sh", "-c", script).stdout


def status(daemon: Daemon, field: str, *flags: str) -> str:
    """Return a field of /proc/self/status in a container."""
    text = inside(daemon, "cat /proc/self/status", *flags)
    return next(
        line.split(":")[1].strip() for line in text.splitlines() if line.startswith(f"{field}:")
    )


def test_only_its_own_processes_are_seen(daemon: Daemon) -> None:
    """The command is pid 1, and the only other process is what lists them."""
    found = inside(daemon, "for p in /proc/[0-9]*; do echo ${p#/proc/}; done; echo $$").split()
    assert found[0] == "1"
    assert len(found) <= 3


@pytest.mark.parametrize("name", ["cgroup", "ipc", "mnt", "net", "pid", "uts"])
def test_each_namespace_is_its_own(daemon: Daemon, name: str) -> None:
    """The namespace's identity differs from the host's and from another container's."""
    script = f"readlink /proc/self/ns/{name}"
    first, second = inside(daemon, script), inside(daemon, script)
    host = str(Path(f"/proc/self/ns/{name}").readlink())
    assert first.strip() != host
    assert second.strip() != host


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")],
)
def test_a_host_namespace_is_shared_on_request(daemon: Daemon, flag: str, name: str) -> None:
    """``--pid host`` and the like join the daemon's namespace."""
    found = inside(daemon, f"readlink /proc/self/ns/{name}", flag, "host").strip()
    assert found == str(Path(f"/proc/self/ns/{name}").readlink())


def test_the_hostname_is_the_short_id(daemon: Daemon) -> None:
    """It is set inside, and the host's stays."""
    before = socket.gethostname()
    made = daemon.cli("run", "-d", "busybox", "sleep", "100").stdout.strip()
    assert daemon.cli("exec", made, "hostname").stdout.strip() == made[:12]
    assert socket.gethostname() == before


def test_no_host_mount_shows(daemon: Daemon) -> None:
    """Every mount inside is the container's own; the daemon's folder appears in none of them."""
    text = inside(daemon, "cat /proc/self/mountinfo")
    targets = {line.split()[4] for line in text.splitlines()}
    assert "/" in targets
    assert "/proc" in targets
    allowed = ("/", "/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
    assert all(t in allowed or t.startswith(("/proc/", "/dev/", "/sys/")) for t in targets)


def test_the_root_cannot_be_left(daemon: Daemon) -> None:
    """After pivot_root there is no old root to climb to."""
    seen = inside(daemon, "cd /; cd ../../../..; ls").split()
    assert "bin" in seen
    assert {path.name for path in Path("/").iterdir()} - set(seen)


def test_ipc_objects_of_the_host_are_not_seen(daemon: Daemon) -> None:
    """The lists of System V objects are empty."""
    for kind in ("shm", "msg", "sem"):
        assert len(inside(daemon, f"cat /proc/sysvipc/{kind}").splitlines()) == 1


def test_links_are_its_own(daemon: Daemon) -> None:
    """Without a network there is the loopback alone."""
    names = inside(daemon, "ls /sys/class/net", "--network", "none").split()
    assert [
        name for name in names if name == "lo" or name.startswith(("eth", "veth", "pannier"))
    ] == ["lo"]


def test_the_control_group_looks_like_the_root(daemon: Daemon) -> None:
    """The cgroup namespace hides the path on the host."""
    paths = {line.split(":")[2] for line in inside(daemon, "cat /proc/self/cgroup").splitlines()}
    assert daemon.group not in "".join(paths)


def test_the_default_capabilities_are_dockers(daemon: Daemon) -> None:
    """Permitted, effective and bounding hold the fourteen; inheritable and ambient none."""
    for field in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status(daemon, field), 16) == DEFAULT_CAPABILITIES
    for field in ("CapInh", "CapAmb"):
        assert int(status(daemon, field), 16) == 0


def test_capabilities_are_added_and_dropped(daemon: Daemon) -> None:
    """``--cap-drop ALL`` leaves none; ``--cap-add`` adds to what is left."""
    assert int(status(daemon, "CapEff", "--cap-drop", "ALL"), 16) == 0
    only = status(daemon, "CapEff", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN")
    assert int(only, 16) == 1 << 12


def test_a_user_has_no_capabilities(daemon: Daemon) -> None:
    """The bounding set stays, the effective one is empty."""
    assert int(status(daemon, "CapEff", "-u", "1000"), 16) == 0
    assert int(status(daemon, "CapBnd", "-u", "1000"), 16) == DEFAULT_CAPABILITIES


def test_a_seccomp_filter_is_in_force(daemon: Daemon) -> None:
    """Mode 2 by default, 0 when unconfined."""
    assert status(daemon, "Seccomp") == "2"
    assert status(daemon, "Seccomp", "--security-opt", "seccomp=unconfined") == "0"


def test_new_privileges_can_be_forbidden(daemon: Daemon) -> None:
    """``--security-opt no-new-privileges`` sets the bit."""
    assert status(daemon, "NoNewPrivs") == "0"
    assert status(daemon, "NoNewPrivs", "--security-opt", "no-new-privileges") == "1"


@pytest.mark.parametrize(
    "path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"]
)
def test_masked_files_read_empty(daemon: Daemon, path: str) -> None:
    """A masked file is /dev/null; one that this kernel lacks is missing."""
    assert inside(daemon, f"[ ! -e {path} ] || cat {path} | head -c 10") == ""


@pytest.mark.parametrize("path", ["/proc/acpi", "/proc/scsi", "/sys/firmware"])
def test_masked_folders_are_empty(daemon: Daemon, path: str) -> None:
    """A masked folder has nothing in it."""
    assert inside(daemon, f"ls {path} 2>/dev/null || true") == ""


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/x"]
)
def test_kernel_settings_are_read_only(daemon: Daemon, path: str) -> None:
    """What would change the host is mounted read-only."""
    done = daemon.cli("run", "--rm", "busybox", "sh", "-c", f"echo b > {path}", check=False)
    assert done.returncode != 0


def test_no_descriptor_of_the_engine_is_open_inside(daemon: Daemon) -> None:
    """A process has its three streams and what it opened itself (CVE-2024-21626)."""
    known = "-e pipe: -e /dev/null -e /proc/"
    script = f"for f in /proc/self/fd/*; do readlink $f; done | grep -v {known} || true"
    assert inside(daemon, script) == ""
    made = daemon.cli("run", "-d", "busybox", "sleep", "100").stdout.strip()
    assert daemon.cli("exec", made, "sh", "-c", script).stdout == ""


def test_a_working_directory_outside_the_root_is_refused(daemon: Daemon) -> None:
    """``-w /proc/self/fd/7`` does not lead out (CVE-2024-21626)."""
    for number in range(3, 20):
        done = daemon.cli(
            "run",
            "--rm",
            "-w",
            f"/proc/self/fd/{number}",
            "busybox",
            "ls",
            "../../../../",
            check=False,
        )
        assert done.returncode != 0 or "boot" not in done.stdout.split()


def test_the_interpreter_cannot_be_overwritten(daemon: Daemon) -> None:
    """/proc/PID/exe of any process of ours is no file of the host (CVE-2019-5736)."""
    made = daemon.cli("run", "-d", "--init", "busybox", "sleep", "100").stdout.strip()
    done = daemon.cli("exec", made, "sh", "-c", "echo > /proc/1/exe", check=False)
    assert done.returncode != 0


def test_an_init_looks_as_dockers(daemon: Daemon) -> None:
    """Of the interpreter that it is nothing is seen: neither its path nor what it was given."""
    look = "cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline"
    done = daemon.cli("run", "--rm", "--init", "busybox", "sh", "-c", look)
    assert done.stdout == f"docker-init\n/sbin/docker-init -- sh -c {look} "


def test_a_read_only_root_refuses_writes(daemon: Daemon) -> None:
    """``--read-only`` covers the root, and a tmpfs can be laid over it."""
    done = daemon.cli("run", "--rm", "--read-only", "busybox", "touch", "/x", check=False)
    assert done.returncode != 0
    daemon.cli("run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "touch", "/tmp/x")


def test_devices_are_the_default_ones(daemon: Daemon) -> None:
    """No disk of the host is there, nor can one be made usable."""
    found = set(inside(daemon, "ls /dev").split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"} <= found
    assert not {"vda", "sda", "kmsg", "mem"} & found
    done = daemon.cli(
        "run", "--rm", "busybox", "sh", "-c", "mknod /d b 254 0 && head -c 1 /d", check=False
    )
    assert done.returncode != 0


def test_the_host_lacks_what_the_container_writes(daemon: Daemon) -> None:
    """With ``--rootfs /`` the host's files are there, and stay as they are."""
    marker = Path("/pannier-e2e-marker")
    daemon.cli("run", "--rm", "--rootfs", "/", "touch", str(marker))
    assert not marker.exists()
