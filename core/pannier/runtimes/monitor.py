"""A container's monitor: between the daemon, which comes and goes, and the container's processes.

It is the parent of the processes, keeps their streams, log and exit statuses, and answers the
driver (:mod:`pannier.runtimes.supervised`) on a socket in the container's folder. It lives until
the first process has ended and its output is delivered, whether or not a driver does. How the
container is made is its :class:`~pannier.runtimes.mechanism.Mechanism`'s business.
"""

from __future__ import annotations

import _socket
import os
import time

from pannier.linux.terminal import set_size
from pannier.runtimes.channel import receive, send
from pannier.runtimes.mechanism import Failure
from pannier.runtimes.members import Member, close_all, log_descriptors
from pannier.stdio.loop import READ, Loop
from pannier.stdio.small import failure_text, signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.runtimes.jobs import Departure, Event, ExecJob, MonitorJob, Reply
    from pannier.runtimes.mechanism import Mechanism

__all__ = ["Monitor", "answer"]

_SOCKET = "shim.sock"  # as pannier.runtimes.store has it, which is too heavy for here
_BACKLOG = 64
_FAREWELL = 5.0
_MOST_UNTOLD = 1000
_PATIENCE = 10.0
_STAT_START = 19


class Monitor:
    """The monitor's state, and its answers. The working directory is the container's folder."""

    def __init__(self, job: MonitorJob, descriptors: list[int], mechanism: Mechanism) -> None:
        self._job = job
        self._mechanism = mechanism
        self._loop = Loop()
        self._watchers: list[_socket.socket] = []
        self._untold: list[Event | Departure] = []
        self._kept: list[int] = []
        self._deleting: list[_socket.socket] = []
        self._started = False
        self._done = False
        self._first = Member(None, self._loop, job["stdio"], descriptors, self._left)
        self._members: dict[str | None, Member] = {None: self._first}
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)

    def begin(self, descriptors: list[int]) -> Reply:
        """Have the container created; answer with its first process's id."""
        try:
            return {"pid": self._create(descriptors)}
        except Exception as error:  # noqa: BLE001 - told to the driver
            return _refusal(error)

    def _create(self, descriptors: list[int]) -> int:
        stdio = self._job["stdio"]
        self._first.launch(stdio, lambda ends: self._mechanism.create(stdio, ends))
        pid = self._first.pid
        self._note("pid", f"{pid} {_start_time(pid)}\n")
        self._mechanism.noted(pid)
        kept = log_descriptors(stdio)
        close_all(item for number, item in enumerate(descriptors) if number not in kept)
        self._listener.bind(_SOCKET)
        self._listener.listen(_BACKLOG)
        return pid

    @staticmethod
    def _note(name: str, text: str) -> None:
        staged = f"{name}.new"
        with open(staged, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib is not loaded here
            file.write(text)
        os.rename(staged, name)  # noqa: PTH104 - as above

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
                _complain()

    def end(self) -> None:
        """Clean up behind the container."""
        if self._first.pid and self._first.status is None:
            with suppress(ProcessLookupError):
                os.kill(self._first.pid, signal.SIGKILL)
        with suppress(Failure, OSError):
            self._mechanism.delete()
        with suppress(FileNotFoundError):
            os.unlink(_SOCKET)  # noqa: PTH108 - pathlib is not loaded here

    def _on_child(self, waking: int) -> None:
        with suppress(BlockingIOError):
            os.read(waking, 512)
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
            close_all(self._kept)
            self._kept = []
            self._done = True
        else:
            member.drained = True
            self._loop.call_later(0.0, self._forget)
        self._tell_or_keep(event)

    def _left(self, exec_id: str | None) -> None:
        """Tell that a client has left a process by its keys."""
        self._tell_or_keep({"exec_id": exec_id, "detached": True})

    def _forget(self) -> None:
        """Forget the added processes that have ended and whose output is delivered."""
        for member in list(self._members.values()):
            if member.drained and not member.streams.busy:
                del self._members[member.exec_id]

    def _tell_or_keep(self, event: Event | Departure) -> None:
        if not self._tell(event):
            self._untold = [*self._untold[-_MOST_UNTOLD:], event]

    def _tell(self, event: Event | Departure) -> bool:
        told = False
        for watcher in list(self._watchers):
            try:
                send(watcher, event)
                told = True
            except OSError:
                self._end_watch(watcher)
        return told

    def _end_watch(self, watcher: _socket.socket) -> None:
        self._loop.unwatch(watcher.fileno())
        self._watchers.remove(watcher)
        watcher.close()

    # ---- answers

    def _on_connection(self) -> None:
        descriptor, _ = self._listener._accept()  # type: ignore[attr-defined] # noqa: SLF001 - not in the stubs
        connection = _socket.socket(fileno=descriptor)
        connection.settimeout(_PATIENCE)
        self._loop.watch(connection.fileno(), READ, lambda _: self._on_request(connection))

    def _on_request(self, connection: _socket.socket) -> None:
        self._loop.unwatch(connection.fileno())
        message = receive(connection)
        if message is None:
            connection.close()
            return
        request, descriptors = message
        try:
            reply: Reply | None = getattr(self, f"do_{request['do']}")(
                request, descriptors, connection
            )
        except Exception as error:  # noqa: BLE001 - told to the driver; the container goes on
            reply = _refusal(error)
        if reply is not None:
            answer(connection, reply)

    def do_state(self, *_: object) -> Reply:
        """Answer with the state. One that has ended runs on until its output is delivered."""
        ended = self._has_ended()
        status = "running" if self._started or ended else "created"
        return {"status": status, "pid": 0 if ended else self._first.pid}

    def do_start(self, request: Any, descriptors: list[int], *_: object) -> Reply:
        """Let the first process execute."""
        if self._started or self._has_ended():
            close_all(descriptors)
            return self._conflict()
        jobs = request["connections"]
        self._kept += descriptors[len(jobs) :]
        for job, client in zip(jobs, descriptors, strict=False):
            self._first.streams.attach(job, client)
        self._first.streams.deliver_pending()
        try:
            self._mechanism.start()
        except BaseException:
            with suppress(ProcessLookupError):
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
            close_all(descriptors)
            return _no_process(member)
        member.streams.attach(request["connection"], *descriptors)
        return {"time": time.time_ns()}

    def do_resize(self, request: Any, *_: object) -> Reply:
        """Set a terminal's size."""
        member = self._members.get(request["exec_id"])
        if member is None:
            return _no_process(member)
        if member.streams.master >= 0:
            with suppress(OSError):  # its last user has just closed it
                set_size(member.streams.master, request["rows"], request["columns"])
        return {}

    def do_watch(self, _: object, __: object, connection: _socket.socket) -> None:
        """Tell of every event from now on, and of those that nobody was told of."""
        self._watchers.append(connection)
        # It never sends: what it polls is its end.
        self._loop.watch(connection.fileno(), READ, lambda _: self._end_watch(connection))
        untold, self._untold = self._untold, []
        for event in untold:
            self._tell(event)

    def do_delete(self, _: object, __: object, connection: _socket.socket) -> None:
        """Kill the container, and end; the answer is the end of the connection."""
        self._deleting.append(connection)  # open to our very end
        if self._first.status is None:
            os.kill(self._first.pid, signal.SIGKILL)
        if self._done:
            # It has ended by itself: clients may take the rest of its output, for a while.
            self._loop.call_later(_FAREWELL, self._abandon)
        else:
            self._abandon()

    def _abandon(self) -> None:
        for member in self._members.values():
            member.streams.abandon()

    def do_exec(self, request: Any, descriptors: list[int], *_: object) -> Reply:
        """Add a process."""
        job: ExecJob = request["job"]
        if not self._started or self._has_ended():
            close_all(descriptors)
            return self._conflict()
        if job["exec_id"] in self._members:
            close_all(descriptors)
            return {"error": "conflict", "text": f"there is a process {job['exec_id']}"}
        stdio, client = job["stdio"], job["connection"]
        member = Member(job["exec_id"], self._loop, stdio, descriptors, self._left)
        procs = [descriptors[number] for number in job["procs"]]
        try:
            member.launch(
                stdio,
                lambda ends: self._mechanism.execute(job["process"], stdio, ends, procs),
            )
        except BaseException:
            close_all(descriptors)
            self._reap()
            if self._has_ended():
                return self._conflict()
            raise
        close_all(procs)
        self._members[member.exec_id] = member
        if client is not None:
            member.streams.attach(client, descriptors[client["socket"]])
        member.streams.release()
        return {"pid": member.pid}


def _no_process(member: Member | None) -> Reply:
    if member is None:
        return {"error": "missing", "text": "no such process"}
    return {"error": "conflict", "text": "it has stopped"}


def _refusal(error: Exception) -> Reply:
    """Return the answer for an error that is being handled."""
    if isinstance(error, Failure):
        if error.number:
            return {"error": "start", "text": str(error), "errno": error.number}
        return {"error": "refused", "text": str(error)}
    if isinstance(error, OSError):
        return {"error": "refused", "text": str(error)}
    _complain()
    return {"error": "internal", "text": f"{type(error).__name__}: {error}"}


def _start_time(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - procfs
        return int(file.read().rpartition(b")")[2].split()[_STAT_START])


def _complain() -> None:
    """Write the error being handled to the monitor's log, which is its standard error."""
    with suppress(OSError):
        os.write(2, failure_text().encode())


def answer(connection: _socket.socket, reply: Reply) -> None:
    """Send an answer to whoever still waits for it, and close."""
    with suppress(OSError):
        send(connection, reply)
    connection.close()
