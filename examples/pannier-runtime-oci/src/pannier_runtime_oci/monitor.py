"""The monitor: one container's, between the daemon and the external runtime.

The runtime's commands come and go; the processes that they leave behind become this process's
children, since it is a subreaper. It keeps their streams, log and exit statuses, answers the driver
on a socket in the container's folder, and lives until the first process has ended and its output is
delivered, whether or not a driver does.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pannier.linux.terminal import set_size
from pannier.stdio.log import LogFile
from pannier.stdio.loop import READ, Loop
from pannier.stdio.streams import Streams

from pannier_runtime_oci import place
from pannier_runtime_oci.console import Console
from pannier_runtime_oci.external import Failure, Runtime
from pannier_runtime_oci.store import SOCKET, start_time
from pannier_runtime_oci.wire import receive, send

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier_runtime_oci.jobs import ContainerJob, Event, ExecJob, Reply, StdioJob

__all__ = ["Monitor", "reply"]

_PATIENCE = 10.0
_MOST_UNTOLD = 1000
_BACKLOG = 64
_PIECE = 512


class Member:
    """A process of the container's. *exec_id* is None for the first."""

    __slots__ = ("drained", "exec_id", "finished", "pid", "status", "streams")

    def __init__(self, exec_id: str | None, streams: Streams) -> None:
        self.exec_id = exec_id
        self.streams = streams
        self.pid = 0
        self.status: int | None = None
        self.finished = 0.0
        self.drained = False


class Monitor:
    """The monitor's state, and its answers. The working directory is the bundle."""

    def __init__(self, job: ContainerJob, descriptors: list[int]) -> None:
        self._job = job
        self._loop = Loop()
        self._runtime = Runtime(job["runtime"], job["id"])
        self._watchers: list[socket.socket] = []
        self._untold: list[Event] = []
        self._kept: list[int] = []
        self._deleting: list[socket.socket] = []
        self._started = False
        self._done = False
        self._first = Member(None, self._streams(job["stdio"], descriptors, first=True))
        self._members: dict[str | None, Member] = {None: self._first}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def begin(self, descriptors: list[int]) -> Reply:
        """Have the runtime create the container; answer with its first process's id."""
        try:
            return {"pid": self._create(descriptors)}
        except Failure as failure:
            return _refusal(failure)
        except OSError as error:
            return {"error": "refused", "text": str(error)}

    def _create(self, descriptors: list[int]) -> int:
        job = self._job
        procs = [descriptors[number] for number in job["procs"]]
        place.prepare(descriptors[job["root"]])
        place.attach(job["binds"], descriptors)
        if job["groups"] is not None:
            place.attach_groups(job["groups"], descriptors)
        if job["own_cgroups"]:
            place.make_cgroup_namespace(job["group"], procs)
        with Console(job["stdio"]) as console:
            self._first.pid = self._runtime.create(console.theirs)
            # Noted before it leaves the runtime's group: by one of the two it can be found.
            self._note("pid", f"{self._first.pid} {start_time(self._first.pid)}\n")
            for descriptor in procs:
                os.write(descriptor, b"%d" % self._first.pid)
            place.leave_group(job["group"])
            console.connect(self._first.streams)
        log = job["stdio"]["log"]
        kept = set() if log is None else {log["file"], log["folder"]}
        _close(item for number, item in enumerate(descriptors) if number not in kept)
        self._listener.bind(SOCKET)
        self._listener.listen(_BACKLOG)
        return self._first.pid

    def _streams(self, stdio: StdioJob, descriptors: list[int], *, first: bool) -> Streams:
        log = stdio["log"]
        file = LogFile(log, descriptors[log["file"]], descriptors[log["folder"]]) if log else None
        return Streams(
            self._loop,
            terminal=stdio["terminal"],
            close_stdin=stdio["stdin_once"] or not first,
            log=file,
            held=not first,
        )

    def _note(self, name: str, text: str) -> None:
        Path(f"{name}.new").write_text(text, encoding="ascii")
        Path(f"{name}.new").rename(name)

    # ---- life

    def serve(self) -> None:
        """Answer until the container has stopped and everything is delivered."""
        waking, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self._loop.watch(waking, READ, lambda _: self._on_child(waking))
        self._loop.watch(self._listener.fileno(), READ, lambda _: self._on_connection())
        self._reap()  # the first process may have been killed already
        while not self._done or any(member.streams.busy for member in self._members.values()):
            try:
                self._loop.run_once()
            except Exception:  # noqa: BLE001 - the container must not suffer for it
                traceback.print_exc()

    def end(self) -> None:
        """Clean up behind the container."""
        if self._first.pid and self._first.status is None:
            with suppress(ProcessLookupError):
                os.kill(self._first.pid, signal.SIGKILL)
        with suppress(Failure):
            self._runtime.delete()
        place.leave_group(self._job["group"])
        Path(SOCKET).unlink(missing_ok=True)

    def _on_child(self, waking: int) -> None:
        with suppress(BlockingIOError):
            os.read(waking, _PIECE)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for member in list(self._members.values()):
                if member.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._ended(member, code if code >= 0 else 128 - code)

    def _ended(self, member: Member, status: int) -> None:
        member.status = status
        member.finished = time.time()
        alone = member is self._first and self._job["own_pids"]
        if member is self._first and not alone:
            # In a namespace of its own the kernel has done it.
            for other in self._members.values():
                if other.status is None:
                    os.kill(other.pid, signal.SIGKILL)
        member.streams.finish(lambda: self._drained(member), alone=alone)

    def _drained(self, member: Member) -> None:
        assert member.status is not None
        event: Event = {
            "exec_id": member.exec_id,
            "exit_status": member.status,
            "finished": member.finished,
        }
        if member is self._first:
            with suppress(FileNotFoundError):  # deleted meanwhile
                self._note("exit", f"{member.status} {member.finished!r}\n")
            _close(self._kept)
            self._kept = []
            self._done = True
        else:
            member.drained = True
            self._loop.call_later(0.0, self._forget)
        if not self._tell(event):
            self._untold = [*self._untold[-_MOST_UNTOLD:], event]

    def _forget(self) -> None:
        """Forget the added processes that have ended and whose output is delivered."""
        for member in list(self._members.values()):
            if member.drained and not member.streams.busy:
                del self._members[member.exec_id]

    def _tell(self, event: Event) -> bool:
        told = False
        for watcher in list(self._watchers):
            try:
                send(watcher, event)
                told = True
            except OSError:
                self._end_watch(watcher)
        return told

    def _end_watch(self, watcher: socket.socket) -> None:
        self._loop.unwatch(watcher.fileno())
        self._watchers.remove(watcher)
        watcher.close()

    # ---- answers

    def _on_connection(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(_PATIENCE)
        self._loop.watch(connection.fileno(), READ, lambda _: self._on_request(connection))

    def _on_request(self, connection: socket.socket) -> None:
        self._loop.unwatch(connection.fileno())
        message = receive(connection)
        if message is None:
            connection.close()
            return
        request, descriptors = message
        try:
            answer: Reply | None = getattr(self, f"do_{request['do']}")(
                request, descriptors, connection
            )
        except Failure as failure:
            answer = _refusal(failure)
        except Exception as error:  # noqa: BLE001 - told to the driver; the container goes on
            traceback.print_exc()
            answer = {"error": "refused", "text": f"{type(error).__name__}: {error}"}
        if answer is not None:
            reply(connection, answer)

    def do_state(self, *_: object) -> Reply:
        """Answer with the state. One that has ended runs on until its output is delivered."""
        ended = self._has_ended()
        status = self._started or ended
        return {
            "status": "running" if status else "created",
            "pid": 0 if ended else self._first.pid,
        }

    def do_start(self, request: Any, descriptors: list[int], *_: object) -> Reply:
        """Let the first process execute."""
        if self._started or self._has_ended():
            _close(descriptors)
            return self._conflict()
        clients = request["clients"]
        self._kept += descriptors[len(clients) :]
        for job, client in zip(clients, descriptors, strict=False):
            self._first.streams.attach(job, client)
        try:
            self._runtime.start()
        except Failure:
            os.kill(self._first.pid, signal.SIGKILL)
            raise
        self._started = True
        return {}

    def _has_ended(self) -> bool:
        return self._first.status is not None

    def _conflict(self) -> Reply:
        if self._has_ended():
            return {"error": "conflict", "text": "it has stopped"}
        text = "it runs already" if self._started else "it has not been started"
        return {"error": "conflict", "text": text}

    def do_kill(self, request: Any, *_: object) -> Reply:
        """Send a signal to the first process, or to an added one."""
        member = self._members.get(request["exec_id"])
        if member is None or member.status is not None:
            return _no_process(member)
        os.kill(member.pid, request["signal"])
        return {}

    def do_attach(self, request: Any, descriptors: list[int], *_: object) -> Reply:
        """Serve a client."""
        member = self._members.get(request["exec_id"])
        if member is None or member.status is not None:
            _close(descriptors)
            return _no_process(member)
        member.streams.attach(request["client"], descriptors[0])
        return {}

    def do_resize(self, request: Any, *_: object) -> Reply:
        """Set a terminal's size."""
        member = self._members.get(request["exec_id"])
        if member is None:
            return _no_process(member)
        if member.streams.master >= 0:
            with suppress(OSError):  # its last user has just closed it
                set_size(member.streams.master, request["rows"], request["columns"])
        return {}

    def do_watch(self, _: object, __: object, connection: socket.socket) -> None:
        """Tell of every exit from now on, and of those that nobody was told of."""
        self._watchers.append(connection)
        # It never sends: what it polls is its end.
        self._loop.watch(connection.fileno(), READ, lambda _: self._end_watch(connection))
        untold, self._untold = self._untold, []
        for event in untold:
            self._tell(event)

    def do_delete(self, _: object, __: object, connection: socket.socket) -> None:
        """Kill the container, and end; the answer is the end of the connection."""
        self._deleting.append(connection)  # open to our very end
        if self._first.status is None:
            os.kill(self._first.pid, signal.SIGKILL)
        for member in self._members.values():
            member.streams.abandon()

    def do_exec(self, request: Any, descriptors: list[int], *_: object) -> Reply:
        """Add a process."""
        job: ExecJob = request["job"]
        if not self._started or self._has_ended():
            _close(descriptors)
            return self._conflict()
        if job["exec_id"] in self._members:
            _close(descriptors)
            return {"error": "conflict", "text": f"there is a process {job['exec_id']}"}
        member = Member(job["exec_id"], self._streams(job["stdio"], descriptors, first=False))
        procs = [descriptors[number] for number in job["procs"]]
        try:
            with Console(job["stdio"]) as console:
                member.pid = self._runtime.execute(job["process"], console.theirs, procs)
                console.connect(member.streams)
        except BaseException:
            _close(descriptors)
            if member.pid:  # it runs, and nobody could talk to it
                os.kill(member.pid, signal.SIGKILL)
            self._reap()
            if self._has_ended():
                return self._conflict()
            raise
        _close(procs)
        self._members[member.exec_id] = member
        if (client := job["client"]) is not None:
            member.streams.attach(client, descriptors[client["socket"]])
        member.streams.release()
        return {"pid": member.pid}


def _no_process(member: Member | None) -> Reply:
    if member is None:
        return {"error": "missing", "text": "no such process"}
    return {"error": "conflict", "text": "it has stopped"}


def _refusal(failure: Failure) -> Reply:
    if failure.number:
        return {"error": "start", "text": str(failure), "errno": failure.number}
    return {"error": "refused", "text": str(failure)}


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def reply(connection: socket.socket, answer: Reply) -> None:
    """Send an answer to whoever still waits for it, and close."""
    with connection, suppress(OSError):
        send(connection, answer)
