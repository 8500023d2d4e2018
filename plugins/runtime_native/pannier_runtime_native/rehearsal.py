"""A shim's life, rehearsed in the zygote before it is frozen.

The interpreter fills caches as code runs for the first times: of attributes by type, of the ways an
instruction went, of types made by ctypes. Filled in the zygote they are shared by all shims; else
each shim would fill its own, at the cost of copies of the pages they lie in, in memory and time.
"""

from __future__ import annotations

import _socket
import os

from pannier.runtimes.channel import receive, send
from pannier.stdio.small import signal, suppress
from pannier_runtime_native.midwife import Birth
from pannier_runtime_native.shim import SOCKET, Shim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier_runtime_native.messages import Job, ProcessJob

__all__ = ["rehearse"]

_FOLDER = "/rehearsal"

_PROCESS: ProcessJob = {
    "args": [b"/null"],  # not executable
    "env": [b"PATH=/"],
    "cwd": b"/",
    "uid": 0,
    "gid": 0,
    "groups": [],
    "umask": 0o022,
    "rlimits": [],
    "capabilities": None,
    "no_new_privileges": False,
    "seccomp": b"",
    "seccomp_flags": 0,
    "oom_score_adj": None,
    "apparmor": b"",
    "tied": True,
    "scheduling": None,
}


def rehearse(times: int) -> None:
    """Lead a life without a container, so many times; needs a writable root."""
    # pathlib is not loaded here.
    os.mkdir(_FOLDER)  # noqa: PTH102
    for _ in range(times):
        with suppress(OSError):
            _rehearse()
    for name in os.listdir(_FOLDER):  # noqa: PTH208
        os.unlink(f"{_FOLDER}/{name}")  # noqa: PTH108
    os.rmdir(_FOLDER)  # noqa: PTH106


def _rehearse() -> None:
    job: Job = {
        "id": "rehearsal",
        "folder": 0,
        "root": 0,
        "clone_flags": 0,
        "joins": [],
        "exec_flags": 0,
        "own_pids": True,
        "uid_map": b"",
        "gid_map": b"",
        "procs": [1],
        "devices": [],
        "instructions": [("group", False)],
        "process": _PROCESS,
        "stdio": {
            "terminal": False,
            "stdin": True,
            "stdin_once": True,
            "rows": 0,
            "columns": 0,
            "owner": (0, 0),
            "log": {"file": 2, "folder": 0, "name": b"log", "max_size": 0, "max_files": 1},
        },
        "init": False,
        "solo": None,
    }
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    sent = [
        os.open(_FOLDER, os.O_PATH | os.O_CLOEXEC),
        os.open("/null", os.O_WRONLY | os.O_CLOEXEC),
        os.open(f"{_FOLDER}/log", flags, 0o600),
    ]
    driver, ours = _socket.socketpair()
    send(driver, job, sent)
    for descriptor in sent:
        os.close(descriptor)
    message = receive(ours)
    assert message is not None
    received, descriptors = message
    birth = Birth(received, descriptors, None, 0)
    send(ours, birth.reply)
    receive(driver)
    heir, midwife = _socket.socketpair()
    asking = [_ask(request) for request in ("watch", "state", "start")]
    birth.attend(midwife)
    message = receive(heir)
    assert message is not None
    Shim(*message).serve()
    signal.set_wakeup_fd(-1)
    for connection in (*asking, driver, ours, heir, midwife):
        connection.close()


def _ask(request: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(f"{_FOLDER}/{SOCKET}")
    if request == "start":
        client, theirs = _socket.socketpair()
        wanted = {
            "socket": 0,
            "stdin": True,
            "stdout": True,
            "stderr": True,
            "pending": b"pending",
            "detach_keys": b"",
            "framed": None,
        }
        client.send(b"input")
        send(connection, {"do": request, "connections": [wanted]}, [theirs.fileno()])
        client.close()
        theirs.close()
    else:
        send(connection, {"do": request})
    return connection
