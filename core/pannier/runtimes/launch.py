"""The last steps of a process on its way into a container: who it is, what it may do, and execve.

Runs in the container's first process and in those that are added to it later.
"""

from __future__ import annotations

import os
import stat
import sys
from errno import EACCES, ENOENT, ENOEXEC, ENOTDIR

from pannier.linux.capabilities import drop_bounding, raise_ambient, set_capabilities
from pannier.linux.process import (
    close_all_from,
    die_with_parent,
    keep_capabilities,
    set_no_new_privileges,
)
from pannier.linux.rlimits import raise_rlimit, set_rlimit
from pannier.linux.seccomp_install import install
from pannier.stdio.small import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from pannier.runtimes.jobs import ProcessJob

__all__ = [
    "ExecuteError",
    "StartError",
    "become",
    "execute",
    "failure_of",
    "import_nothing_more",
    "limit",
    "limit_descriptors",
    "look_for",
    "take_streams",
    "wanted_directory",
]

_DESCRIPTORS = "RLIMIT_NOFILE"
_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_PASSWD = 1 << 18
_HOME_FIELD = 5


class StartError(Exception):
    """Why a program does not start, in words that are told as they are.

    :ivar number: the kernel's; 0 where it has said nothing.
    """

    number = 0


class ExecuteError(StartError):
    """The program could not be executed; worded as clients of runc look for it."""

    def __init__(self, program: bytes, number: int) -> None:
        super().__init__(_describe(os.fsdecode(program), number))
        self.number = number


def import_nothing_more() -> None:
    """Have every import fail from now on, in a process that is about to enter a container.

    Where Python would look for a module there, it would find the image's, and run it as root.
    """
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
    sys.path_importer_cache.clear()


class FolderError(StartError):
    """The working directory could not be entered; worded as runc does."""

    def __init__(self, path: bytes, number: int) -> None:
        reason = os.strerror(number).lower()
        super().__init__(
            f'chdir to cwd ("{os.fsdecode(path)}") set in config.json failed: {reason}'
        )
        self.number = number


def take_streams(
    descriptors: tuple[int, int, int], kept: Sequence[int] = (), spared: int = -1
) -> None:
    """Make these the process's stdin, stdout and stderr, and close everything else.

    It must be gone before a path of the container's is looked up: a directory of the host's among
    it would lead out of the root (CVE-2024-21626).

    :param kept: become 3 and up, in this order; they must not lie where one of them goes.
    :param spared: a socket, which leads nowhere; execve closes it.
    """
    for target, descriptor in enumerate((*descriptors, *kept)):
        os.dup2(descriptor, target)
    close_all_from(3 + len(kept), (spared,))
    _take_null()


def _take_null() -> None:
    """Have the container's own null device for stdin, where stdin is that of ours."""
    if not _is_null(0):
        return
    with suppress(OSError):
        own = os.open("/dev/null", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if _is_null(own):
            os.set_blocking(own, True)
            os.dup2(own, 0)
        os.close(own)


def _is_null(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def limit(process: ProcessJob) -> None:
    """Set the resource limits and the file mode mask, still as root.

    That of descriptors is at most raised: see :func:`limit_descriptors`.
    """
    for name, soft, hard in process["rlimits"]:
        (raise_rlimit if name == _DESCRIPTORS else set_rlimit)(name, soft, hard)
    os.umask(process["umask"])
    if process["scheduling"] is not None:
        # Loaded in those processes only that were told to have it at hand.
        from pannier.runtimes.scheduling import schedule  # noqa: PLC0415

        schedule(process["scheduling"])


def limit_descriptors(process: ProcessJob) -> None:
    """Set the limit of descriptors, once all are where the program is to have them.

    There may be no room for a further one from then on: what is to be read is read before.
    """
    for name, soft, hard in process["rlimits"]:
        if name == _DESCRIPTORS:
            process["env"] = [b"%b=%b" % entry for entry in _environment(process).items()]
            set_rlimit(name, soft, hard)


def wanted_directory(path: bytes) -> None:
    """Go to the working directory, which must lie inside the root.

    :raises FolderError: it is not there, or no folder.
    :raises OSError: EACCES where it is outside: a descriptor of the host's led there.
    """
    try:
        os.chdir(path)
    except OSError as error:
        raise FolderError(path, error.errno or 0) from error
    # The kernel writes "(unreachable)" before the path of what no longer hangs below the root.
    if not os.getcwdb().startswith(b"/"):  # noqa: PTH109 - pathlib is not loaded here
        raise OSError(EACCES, "the working directory is outside the container's root", path)


def become(process: ProcessJob) -> None:
    """Take on the ids, capabilities and filters of *process*, in the order the kernel demands."""
    late_filter = process["no_new_privileges"]
    if process["seccomp"] and not late_filter:
        # Needs CAP_SYS_ADMIN, which the steps below may take away.
        install(process["seccomp"], process["seccomp_flags"])
    sets = process["capabilities"]
    if sets is not None:
        drop_bounding(sets[0])
        keep_capabilities(True)
    os.setgroups(process["groups"])
    os.setresgid(process["gid"], process["gid"], process["gid"])
    os.setresuid(process["uid"], process["uid"], process["uid"])
    if sets is not None:
        keep_capabilities(False)
        _, effective, permitted, inheritable, ambient = sets
        set_capabilities(effective, permitted, inheritable)
        if ambient:
            raise_ambient(ambient)
    if process["tied"]:
        die_with_parent()
    if late_filter:
        set_no_new_privileges()
        if process["seccomp"]:
            install(process["seccomp"], process["seccomp_flags"])


def execute(process: ProcessJob) -> NoReturn:
    """Replace this process by the program, looked for in the process's own PATH.

    :raises ExecuteError: it could not be executed.
    """
    environment = _environment(process)
    program = process["args"][0]
    candidates = _candidates(program, environment)
    failure = ENOENT
    for candidate in candidates:
        try:
            os.execve(candidate, process["args"], environment)  # noqa: S606 - the container's own
        except OSError as error:
            if error.errno == EACCES:
                failure = EACCES
            elif error.errno not in (ENOENT, ENOTDIR) or len(candidates) == 1:
                raise ExecuteError(program, error.errno or 0) from error
    raise ExecuteError(program, failure)


def look_for(process: ProcessJob) -> None:
    """Look for the program, before anything hangs on it.

    :raises ExecuteError: there is none that could be executed.
    """
    program = process["args"][0]
    failure = ENOENT
    for candidate in _candidates(program, _environment(process)):
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = os.stat(candidate).st_mode  # noqa: PTH116 - pathlib is not loaded here
            if stat.S_ISREG(mode) and os.access(candidate, os.X_OK):
                return
            failure = EACCES
    raise ExecuteError(program, failure)


def _environment(process: ProcessJob) -> dict[bytes, bytes]:
    environment = {}
    for entry in process["env"]:
        name, equals, value = entry.partition(b"=")
        if equals:
            environment[name] = value
    if b"HOME" not in environment:
        environment[b"HOME"] = _home(process["uid"])
    return environment


def _candidates(program: bytes, environment: dict[bytes, bytes]) -> list[bytes]:
    if b"/" in program:
        return [program]
    folders = environment.get(b"PATH", _DEFAULT_PATH).split(b":")
    return [(folder or b".") + b"/" + program for folder in folders]


def _home(uid: int) -> bytes:
    with suppress(OSError):
        descriptor = os.open("/etc/passwd", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            text = os.read(descriptor, _MOST_PASSWD)
        finally:
            os.close(descriptor)
        for line in text.split(b"\n"):
            fields = line.split(b":")
            if len(fields) > _HOME_FIELD and fields[2] == b"%d" % uid:
                return fields[_HOME_FIELD] or b"/"
    return b"/"


def _describe(program: str, number: int) -> str:
    if number == EACCES:
        return f'exec: "{program}": permission denied'
    if number in (ENOENT, ENOTDIR):
        if "/" in program:
            return f'exec: "{program}": stat {program}: no such file or directory'
        return f'exec: "{program}": executable file not found in $PATH'
    if number == ENOEXEC:
        return f"exec {program}: exec format error"
    return f"exec {program}: {os.strerror(number).lower()}"


def failure_of(error: BaseException) -> tuple[int, str]:
    """Return an error's number (0 for none) and text, to be told to the parent."""
    if isinstance(error, StartError):
        return error.number, str(error)
    if isinstance(error, OSError) and error.errno:
        text = error.strerror or ""
        if text == os.strerror(error.errno):
            text = text.lower()  # as Go writes it, and Docker's clients look for it
        where = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        return error.errno, text + where
    return 0, f"{type(error).__name__}: {error}"
