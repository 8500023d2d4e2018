"""A compiled filter, really installed, is obeyed by the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.linux.capabilities import CAPABILITIES
from pannier.linux.libc import libc
from pannier.linux.seccomp import compile_filter
from pannier.linux.seccomp_default import default_profile
from pannier.linux.seccomp_install import install
from pannier.linux.syscall_tables import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

MACHINE = platform.machine()
NUMBERS = numbers(MACHINE)
PR_SET_NO_NEW_PRIVS = 38


def confined(program: bytes, body: Callable[[], object]) -> int:
    """Run *body* in a child under a filter; return the raw wait status."""
    pid = os.fork()
    if not pid:
        try:
            libc.prctl(PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(word) for word in (1, 0, 0, 0)))
            install(program)
            body()
        except BaseException:  # noqa: BLE001 - a child that fails says so by its status
            os._exit(99)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def call(name: str, *arguments: int) -> int:
    """Make a raw system call; return 0 or more, or the negative errno."""
    words = [ctypes.c_long(word) for word in (NUMBERS[name], *arguments)]
    result = libc.syscall(*words)
    return int(result) if result >= 0 else -ctypes.get_errno()


def expect(**answers: tuple[tuple[int, ...], int]) -> Callable[[], None]:
    """Return a body that makes the calls and compares what they answer."""

    def body() -> None:
        for name, (arguments, answer) in answers.items():
            assert call(name, *arguments) == answer

    return body


def denying(name: str, action: str, **more: Any) -> bytes:
    """Compile a filter that only refuses one call."""
    rule = {"names": [name], "action": action, **more}
    return compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def test_a_denied_call_fails_with_the_chosen_errno() -> None:
    """ERRNO gives the errno that the rule asks for, and only on that call."""
    program = denying("getpgid", "SCMP_ACT_ERRNO", errnoRet=errno.EXDEV)
    body = expect(getpgid=((0,), -errno.EXDEV), getsid=((0,), os.getsid(0)))
    assert confined(program, body) == 0


def test_arguments_decide() -> None:
    """A rule with a condition matches only where the argument says so, in all 64 bits."""
    condition = {"index": 0, "value": 1 << 32, "op": "SCMP_CMP_GE"}
    program = denying("umask", "SCMP_ACT_ERRNO", errnoRet=errno.EDOM, args=[condition])

    def body() -> None:
        assert call("umask", 1 << 32) == -errno.EDOM
        assert call("umask", 0o77) >= 0

    assert confined(program, body) == 0


def test_killing_kills() -> None:
    """KILL_PROCESS ends the process with SIGSYS."""
    status = confined(denying("getpgid", "SCMP_ACT_KILL_PROCESS"), expect(getpgid=((0,), 0)))
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_rubbish_is_refused() -> None:
    """What is no program is a ValueError; what the kernel does not take is its OSError."""
    with pytest.raises(ValueError, match="5 bytes"):
        install(b"abcde")
    assert confined(b"\xff" * 8, lambda: None) == 99 << 8


def test_the_default_profile_lets_ordinary_programs_live() -> None:
    """Under the default profile files, sockets, processes and threads work as ever."""

    def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()
        assert os.system("echo hello | cat >/dev/null && ls -l / >/dev/null") == 0
        assert list(Path("/proc/self/fd").iterdir())

    assert confined(compile_filter(default_profile(())), body) == 0


@pytest.mark.root
def test_the_default_profile_refuses_what_it_should() -> None:
    """Namespaces, mounts, the keyring, other kernels, io_uring: refused even to root."""
    CLONE_NEWUSER, SIGCHLD = 0x10000000, 17  # noqa: N806 - the kernel's own names
    eperm = -errno.EPERM
    body = expect(
        unshare=((CLONE_NEWUSER,), eperm),
        clone=((CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), eperm),
        clone3=((0, 0), -errno.ENOSYS),
        mount=((0, 0, 0, 0, 0), eperm),
        setns=((0, 0), eperm),
        keyctl=((0, 0, 0), eperm),
        add_key=((0, 0, 0, 0, 0), eperm),
        bpf=((0, 0, 0), eperm),
        io_uring_setup=((1, 0), eperm),
        kexec_load=((0, 0, 0, 0), eperm),
        init_module=((0, 0, 0), eperm),
        open_by_handle_at=((0, 0, 0), eperm),
        perf_event_open=((0, 0, 0, 0, 0), eperm),
        personality=((0x0040000,), eperm),  # ADDR_NO_RANDOMIZE
        socket=((socket.AF_VSOCK, socket.SOCK_STREAM, 0), eperm),
        swapon=((0, 0), eperm),
        userfaultfd=((0,), eperm),
    )
    assert confined(compile_filter(default_profile(())), body) == 0


@pytest.mark.root
@pytest.mark.parametrize("above", [0, 1 << 32, 1 << 63])
def test_the_default_profile_compares_the_family_as_the_kernel_does(above: int) -> None:
    """Whatever the half of the register says that the kernel throws away; all others are let in."""
    refused = {38, 40}  # AF_ALG, AF_VSOCK

    def body() -> None:
        for family in range(64):
            answer = call("socket", family | above, socket.SOCK_STREAM, 0)
            assert (answer == -errno.EPERM) == (family in refused), family

    assert confined(compile_filter(default_profile(())), body) == 0


@pytest.mark.root
def test_capabilities_open_what_they_govern() -> None:
    """With every capability the calls reach the kernel, which then finds fault with them itself."""

    def body() -> None:
        assert call("unshare", 0) == 0
        assert call("mount", 0, 0, 0, 0, 0) == -errno.EFAULT
        assert call("keyctl", 0, 0, 0) == -errno.EPERM
        assert call("clone3", 0, 0) == -errno.EINVAL

    assert confined(compile_filter(default_profile(CAPABILITIES)), body) == 0
