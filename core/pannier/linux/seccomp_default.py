"""The default seccomp profile: what a container may ask the kernel for.

An allow-list with the effect of Docker's default, so that what runs there runs here: a call that
is not listed fails with EPERM, a newer one with ENOSYS. What a capability governs is allowed with
that capability. Never allowed, among others: ``io_uring``, the kernel's keyring, loading another
kernel, swap, and sockets of the families that reach the host or its crypto code (AF_VSOCK,
AF_ALG), but for 32-bit programs, whose ``socketcall`` has the family in memory. Creating
namespaces takes CAP_SYS_ADMIN; ``clone3``, whose flags lie in memory where a filter cannot look,
is answered ENOSYS, on which C libraries fall back to ``clone``.

A call's older, wider and 32-bit forms stand beside it; those that a machine does not have are
ignored there.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

from pannier.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pannier.linux.seccomp_types import Argument, Profile, Rule

__all__ = ["default_profile"]

_ALLOWED: Final = {
    "files and paths": """
        access faccessat faccessat2 open openat openat2 creat close close_range name_to_handle_at
        stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx
        statfs statfs64 fstatfs fstatfs64 statmount listmount
        link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2
        mkdir mkdirat rmdir mknod mknodat chdir fchdir getcwd getdents getdents64 umask
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32
        utime utimes utimensat utimensat_time64 futimesat
        truncate truncate64 ftruncate ftruncate64 fallocate
        getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
        setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
        landlock_create_ruleset landlock_add_rule landlock_restrict_self
    """,
    "descriptors": """
        read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek
        sendfile sendfile64 splice tee vmsplice copy_file_range readahead fadvise64 fadvise64_64
        arm_fadvise64_64 sync syncfs fsync fdatasync sync_file_range sync_file_range2
        arm_sync_file_range dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2
        select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait
        epoll_pwait2 eventfd eventfd2 signalfd signalfd4
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
        cachestat
    """,
    "memory": """
        brk mmap mmap2 munmap mremap mprotect madvise mincore msync mseal remap_file_pages
        mlock mlock2 mlockall munlock munlockall membarrier memfd_create memfd_secret
        pkey_alloc pkey_free pkey_mprotect map_shadow_stack process_mrelease cacheflush
    """,
    "processes": """
        execve execveat exit exit_group fork vfork wait4 waitid waitpid
        getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32
        getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
        setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
        setgroups setgroups32 capget capset prctl arch_prctl modify_ldt seccomp
        get_thread_area set_thread_area set_tls breakpoint restart_syscall rseq
        getrlimit ugetrlimit setrlimit prlimit64 getrusage times uname sysinfo getcpu getrandom
        getpriority setpriority ioprio_get ioprio_set
        sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
        sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max
        sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64 sched_yield
        pidfd_open ptrace process_vm_readv process_vm_writev uretprobe
    """,
    "signals": """
        kill tkill tgkill pidfd_send_signal pause alarm sigaltstack sigprocmask sigreturn
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    """,
    "waiting for one another": """
        futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
        get_robust_list set_robust_list ipc
        semget semctl semop semtimedop semtimedop_time64 shmget shmctl shmat shmdt
        msgget msgctl msgsnd msgrcv mq_open mq_unlink mq_notify mq_getsetattr
        mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
    """,
    "time": """
        time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64
        nanosleep clock_nanosleep clock_nanosleep_time64 adjtimex clock_adjtime clock_adjtime64
        getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime
        timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64
    """,
    "sockets": """
        socketcall socketpair bind listen accept accept4 connect shutdown getsockname getpeername
        getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg
        recvmmsg_time64
    """,
}

_WITH_CAPABILITY: Final = {
    "CAP_SYS_ADMIN": """
        clone clone3 unshare setns mount umount umount2 mount_setattr move_mount open_tree fsopen
        fsconfig fsmount fspick bpf perf_event_open fanotify_init quotactl quotactl_fd syslog
        sethostname setdomainname lookup_dcookie lsm_get_self_attr lsm_set_self_attr
        lsm_list_modules
    """,
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_NICE": "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

_ARCHITECTURES: Final = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}

_AF_ALG = 38
_AF_VSOCK = 40
_LAST_FAMILY = 63  # more than linux/socket.h has
_INT = 0xFFFFFFFF
_ENOSYS = 38

_NAMESPACES = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)

# personality(2): Linux, with a short uname or 32-bit uname or both, and the query.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def default_profile(capabilities: Iterable[str], machine: str | None = None) -> Profile:
    """Return the default profile for a container, as an OCI seccomp object.

    :param capabilities: those of the container's bounding set, with their ``CAP_``.
    :param machine: as ``uname -m`` has it; by default this one.
    """
    held = frozenset(capabilities)
    names = [name for group in _ALLOWED.values() for name in group.split()]
    for capability, group in _WITH_CAPABILITY.items():
        if capability in held:
            names += group.split()
    rules = [_allow(dict.fromkeys(names))]
    rules += [_allow(["personality"], _argument(0, "EQ", value)) for value in _PERSONALITIES]
    # The family is an int: of the register, which a filter compares whole, the kernel takes half.
    for first, last in ((0, _AF_ALG - 1), (_AF_ALG + 1,) * 2, (_AF_VSOCK + 1, _LAST_FAMILY)):
        for start, size in _blocks(first, last):
            masked = _argument(0, "MASKED_EQ", _INT & ~(size - 1), start)
            rules.append(_allow(["socket"], masked))
    if "CAP_SYS_ADMIN" not in held:
        # MASKED_EQ: of these flags, none.
        rules.append(_allow(["clone"], _argument(0, "MASKED_EQ", _NAMESPACES)))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": list(_ARCHITECTURES.get(machine or platform.machine(), [])),
        "syscalls": rules,
    }


def _allow(names: Iterable[str], *arguments: Argument) -> Rule:
    rule: Rule = {"names": list(names), "action": "SCMP_ACT_ALLOW"}
    if arguments:
        rule["args"] = list(arguments)
    return rule


def _argument(index: int, operator: str, value: int, second: int = 0) -> Argument:
    return {"index": index, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}


def _blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield where the fewest aligned blocks of a power of two begin that are a range, and sizes."""
    while first <= last:
        size = first & -first or 1 << last.bit_length()
        while first + size - 1 > last:
            size >>= 1
        yield first, size
        first += size
