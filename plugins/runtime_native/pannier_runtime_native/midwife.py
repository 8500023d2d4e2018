"""The midwife: makes a container, sees it through its start, and hands it over to its shim.

A process of its own, a sibling of the container's first process, which ends once that runs. What it
touches of the memory shared with the zygote is freed with it: the shim, which lives as long as the
container, executes next to nothing and so has little memory of its own.
"""

from __future__ import annotations

import _socket
import os
import select

from pannier.linux.terminal import set_size
from pannier.runtimes.channel import receive, send
from pannier.runtimes.pipes import open_pipes
from pannier.stdio.small import suppress
from pannier_runtime_native import init
from pannier_runtime_native.creation import StepError, create
from pannier_runtime_native.shim import SOCKET, answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from pannier_runtime_native.creation import Prepared
    from pannier_runtime_native.messages import ConnectionJob, Handover, Job, Reply

__all__ = ["Birth", "main"]

_BACKLOG = 64
_PATIENCE = 10.0


class Birth:
    """A container between its creation and the moment it runs.

    :param family: flags for the clone: CLONE_PARENT makes the first process the shim's child.
    """

    def __init__(
        self, job: Job, descriptors: list[int], prepared: Prepared | None, family: int
    ) -> None:
        self._job = job
        self._folder = descriptors[job["folder"]]
        self._watchers: list[int] = []
        self._kept: list[int] = []
        self._clients: list[tuple[ConnectionJob, int]] = []
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._listener.bind(f"/proc/self/fd/{self._folder}/{SOCKET}")
        self._listener.listen(_BACKLOG)
        stdio = job["stdio"]
        ends: list[int] = []
        self._stdin = -1
        self._sources: list[int] = []
        if not stdio["terminal"]:
            ends, self._stdin, self._sources = open_pipes(stdio, "/null")
        log = stdio["log"]
        self._log = [descriptors[log["file"]], descriptors[log["folder"]]] if log else []
        pid, child, self.reply, received = create(job, descriptors, ends, prepared, family)
        self._pid = pid
        self._child: _socket.socket | None = child
        for end in ends:
            os.close(end)
        if received:
            self._sources = received[:1]
            if stdio["rows"] or stdio["columns"]:
                set_size(received[0], stdio["rows"], stdio["columns"])
        self._note_pid()

    def _note_pid(self) -> None:
        # With the time of its start, lest a later process with the same pid be taken for it.
        descriptor = os.open(f"/proc/{self._pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The name, in parentheses, may hold anything; the 20th field behind it is the start.
            start = os.read(descriptor, 4096).rpartition(b")")[2].split()[19]
        finally:
            os.close(descriptor)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open("pid.new", flags, 0o600, dir_fd=self._folder)
        os.write(descriptor, b"%d %s\n" % (self._pid, start))
        os.close(descriptor)
        os.rename("pid.new", "pid", src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def attend(self, heir: _socket.socket) -> None:
        """Answer until the container is started, or is to be more than that; then hand it over."""
        assert self._child is not None
        poll = select.poll()
        poll.register(self._listener.fileno(), select.POLLIN)
        poll.register(self._child.fileno(), select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor != self._listener.fileno():
                    self._hand_over(heir, "created")  # it was killed: the shim buries it
                    return
                if self._on_connection(heir):
                    return

    def _on_connection(self, heir: _socket.socket) -> bool:
        """Answer one request; return whether that handed the container over."""
        accepted, _ = self._listener._accept()  # type: ignore[attr-defined] # noqa: SLF001 - not in the stubs
        connection = _socket.socket(fileno=accepted)
        connection.settimeout(_PATIENCE)
        try:
            message = receive(connection)
        except OSError:
            message = None
        if message is None:
            connection.close()
            return False
        request, descriptors = message
        if request["do"] == "watch":
            self._watchers.append(connection.detach())
        elif request["do"] == "state":
            answer(connection, {"status": "created", "pid": self._pid})
        elif request["do"] == "start":
            answer(connection, self._start(request, descriptors))
            self._hand_over(heir, "running")
            return True
        else:
            self._hand_over(heir, "created", request, [connection.detach(), *descriptors])
            return True
        return False

    def _start(self, request: Any, descriptors: list[int]) -> Reply:
        """Let the first process execute, and wait until it has or has not."""
        sockets = [descriptors[job["socket"]] for job in request["connections"]]
        self._clients = list(zip(request["connections"], sockets, strict=True))
        self._kept = [descriptor for descriptor in descriptors if descriptor not in sockets]
        child, self._child = self._child, None
        assert child is not None
        with suppress(OSError):  # it has been killed: what follows says so
            child.send(init.GO)
        told = receive(child)
        child.close()
        if told is None:
            return {"pid": self._pid}
        return {"error": "start", "errno": told[0]["errno"], "text": told[0]["text"]}

    def _hand_over(
        self,
        heir: _socket.socket,
        status: str,
        request: Any = None,
        asked: list[int] | None = None,
    ) -> None:
        job = self._job
        message: Handover = {
            "pid": self._pid,
            "status": status,
            "own_pids": job["own_pids"],
            "clone_flags": job["clone_flags"],
            "exec_flags": job["exec_flags"],
            "uid_map": job["uid_map"],
            "gid_map": job["gid_map"],
            "seccomp": job["process"]["seccomp"],
            "seccomp_flags": job["process"]["seccomp_flags"],
            "terminal": job["stdio"]["terminal"],
            "stdin": job["stdio"]["stdin"],
            "stdin_once": job["stdio"]["stdin_once"],
            "log": job["stdio"]["log"],
            "clients": [client for client, _ in self._clients],
            "request": request,
            "groups": [],
        }
        groups = [
            [self._folder, self._listener.fileno()],
            self._log,
            [] if self._child is None else [self._child.fileno()],
            self._sources,
            [] if self._stdin < 0 else [self._stdin],
            self._watchers,
            [socket for _, socket in self._clients],
            self._kept,
            asked or [],
        ]
        message["groups"] = [len(group) for group in groups]
        send(heir, message, [descriptor for group in groups for descriptor in group])


def main(descriptor: int, prepared: Prepared | None, heir: _socket.socket, family: int) -> NoReturn:
    """Take the job from the driver's end of this socket, and see it through."""
    status = 1
    try:
        driver = _socket.socket(fileno=descriptor)
        message = receive(driver)
        if message is not None:
            birth = _deliver(driver, *message, prepared, family)
            if birth is not None:
                birth.attend(heir)
                status = 0
    finally:
        os._exit(status)


def _deliver(
    driver: _socket.socket,
    job: Job,
    descriptors: list[int],
    prepared: Prepared | None,
    family: int,
) -> Birth | None:
    reply: Reply
    birth = None
    try:
        birth = Birth(job, descriptors, prepared, family)
        reply = birth.reply
    except StepError as error:
        reply = {"error": "step", "step": error.step, "errno": error.number, "text": error.text}
    except Exception as error:  # noqa: BLE001 - told to the driver
        reply = {"error": "internal", "text": f"{type(error).__name__}: {error}"}
    answer(driver, reply)
    return birth
