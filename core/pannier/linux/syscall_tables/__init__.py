"""The numbers of system calls, by architecture, as data.

A table is text: each line a number, and the names of the calls that follow one another from it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ARCHITECTURES", "X32_BIT", "numbers"]

ARCHITECTURES: Final = ("x86_64", "i386", "x32", "aarch64", "arm")

X32_BIT: Final = 0x40000000
"""Set in every number of the x32 ABI, which shares x86-64's audit architecture."""

# Where x32 differs from x86-64: these calls take structures with pointers ...
_X32_OWN: Final = """
512 rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace
522 rt_sigpending rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load
529 waitid set_robust_list get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo
537 recvmmsg sendmmsg process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit
545 execveat preadv2 pwritev2
"""
# ... and these do not exist.
_X32_ABSENT: Final = (
    "uselib _sysctl create_module get_kernel_syms query_module nfsservctl set_thread_area "
    "get_thread_area epoll_ctl_old epoll_wait_old vserver"
)


@cache
def numbers(architecture: str) -> Mapping[str, int]:
    """Return the number of every system call of *architecture*, by name.

    :raises ValueError: there is no table for that architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"no table of system calls for the architecture {architecture!r}")
    if architecture == "x32":
        table = {**numbers("x86_64"), **_parse(_X32_OWN)}
        for name in _X32_ABSENT.split():
            del table[name]
        return {name: number + X32_BIT for name, number in table.items()}
    common = import_module(f"{__name__}.common").TABLE
    own = import_module(f"{__name__}.{architecture}").TABLE
    return _parse(common) | _parse(own)


def _parse(text: str) -> dict[str, int]:
    table: dict[str, int] = {}
    for line in text.split("\n"):
        if line:
            first, *names = line.split()
            table.update(zip(names, range(int(first), int(first) + len(names)), strict=True))
    return table
