"""The system calls that a process's birth is made of."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pannier.linux.filesystems import PROC, filesystem_type
from pannier.linux.rlimits import RLIMITS
from pannier.linux.sealed import sealed_copy
from pannier.linux.terminal import number, open_master, open_slave, set_size


def run(code: str) -> str:
    """Run code in a process of its own, which has one thread only; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sealed_copy_executes_and_refuses_to_be_written() -> None:
    """It is the program, and nobody can change it, by a new descriptor either."""
    copy = sealed_copy("/bin/echo", "copy")
    try:
        assert (
            subprocess.run(
                ["echo", "hi"],
                executable=f"/proc/self/fd/{copy}",
                pass_fds=[copy],
                check=True,
                capture_output=True,
            ).stdout
            == b"hi\n"
        )
        with pytest.raises(PermissionError):
            os.write(copy, b"x")
        again = os.open(f"/proc/self/fd/{copy}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.write(again, b"x")
            with pytest.raises(PermissionError):
                os.ftruncate(again, 0)
        finally:
            os.close(again)
    finally:
        os.close(copy)


def test_clone_forks() -> None:
    """The child goes on with 0, the parent with a pid that can be waited for."""
    code = (
        "import os\n"
        "from pannier.linux.process import clone\n"
        "pid = clone(0)\n"
        "if not pid: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert run(code) == "7\n"


def test_settings_of_a_process_are_seen_in_proc() -> None:
    """Its name, and that it can gain no privileges."""
    code = (
        "from pannier.linux import process\n"
        "process.set_name('a name that is too long')\n"
        "process.set_no_new_privileges()\n"
        "process.set_child_subreaper()\n"
        "process.die_with_parent()\n"
        "print(open('/proc/self/status').read())\n"
    )
    status = run(code)
    assert "Name:\ta name that is \n" in status
    assert "NoNewPrivs:\t1\n" in status


def test_descriptors_are_closed_from_a_number_on() -> None:
    """At once; those below stay, and those that are named."""
    code = (
        "import os\n"
        "from pannier.linux.process import close_all_from\n"
        "for number in range(5, 12): os.dup2(0, number)\n"
        "close_all_from(6, [-1, 9, 2, 6, 10])\n"
        "print([n for n in range(5, 12) if os.path.exists(f'/proc/self/fd/{n}')])\n"
    )
    assert run(code) == "[5, 6, 9, 10]\n"


def test_a_limit_is_set_and_infinity_understood() -> None:
    """Both as -1 and as all ones."""
    code = (
        "import resource\n"
        "from pannier.linux.rlimits import set_rlimit\n"
        "set_rlimit('RLIMIT_CORE', 0, 0)\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        "set_rlimit('RLIMIT_CPU', (1 << 64) - 1, -1)\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU))\n"
    )
    assert run(code) == "(0, 0)\n(-1, -1)\n"


def test_the_numbers_of_limits_are_the_modules() -> None:
    """Where the module has a name."""
    assert RLIMITS["RLIMIT_NOFILE"] == resource.RLIMIT_NOFILE
    assert RLIMITS["RLIMIT_RTTIME"] == 15


def test_a_filesystem_is_known_by_its_type() -> None:
    """Procfs is procfs, another is not."""
    for path, expected in (("/proc/self/status", True), (sys.executable, False)):
        descriptor = os.open(path, os.O_PATH)
        assert (filesystem_type(descriptor) == PROC) is expected
        os.close(descriptor)


@pytest.mark.root
def test_a_terminal_has_two_ends_and_a_size() -> None:
    """What is written to one is read at the other."""
    root = os.open("/", os.O_PATH)
    master = open_master(root)
    slave = open_slave(master)
    try:
        set_size(master, 12, 34)
        assert os.get_terminal_size(slave) == (34, 12)
        assert Path(os.ttyname(slave)).name == str(number(master))
        os.write(slave, b"hi")
        os.set_blocking(master, True)
        assert os.read(master, 10) == b"hi"
    finally:
        os.close(master)
        os.close(slave)
        os.close(root)


@pytest.mark.root
def test_what_poses_as_a_terminal_is_refused(tmp_path: Path) -> None:
    """A container's own file at /dev/pts/ptmx is not taken for one."""
    (tmp_path / "dev/pts").mkdir(parents=True)
    os.mkfifo(tmp_path / "dev/pts/ptmx")
    root = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(OSError, match="not a devpts ptmx"):
            open_master(root)
    finally:
        os.close(root)
