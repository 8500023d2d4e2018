"""The shim: one container's monitor.

The parent of the container's first process and of all that are added later; keeps their streams,
log and exit statuses, and answers the driver on a socket in the container's state folder. It lives
until the first process has ended and its output is delivered, whether or not a driver does.
"""

from __future__ import annotations

import _socket
import gc
import os
import time

from pannier.linux.process import set_child_subreaper, set_name
from pannier.linux.terminal import set_size
from pannier.runtimes.channel import receive, send
from pannier.runtimes.pipes import open_pipes
from pannier.stdio.log import LogFile
from pannier.stdio.loop import READ, Loop
from pannier.stdio.small import failure_text, signal, suppress
from pannier.stdio.streams import STDOUT, Streams
from pannier_runtime_native import init, joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from pannier_runtime_native.messages import ConnectionJob, ExecJob, Handover, Reply, StdioJob

__all__ = ["SOCKET", "Shim", "answer", "main", "woken"]

SOCKET = "shim.sock"
_BACKLOG = 64
_PATIENCE = 10.0
_FAREWELL = 5.0
_MOST_UNTOLD = 1000


class Member:
    """A process of the container's that is a child of ours. *exec_id* is None for the first.

    An added one has no pid until it is born.
    """

    __slots__ = ("drained", "exec_id", "executing", "finished", "pid", "status", "streams")

    def __init__(self, exec_id: str | None, streams: Streams) -> None:
        self.exec_id = exec_id
        self.streams = streams
        self.pid = 0
        self.executing = exec_id is None
        self.status: int | None = None
        self.finished = 0.0
        self.drained = False

    @property
    def unborn(self) -> bool:
        """Whether its pid is not known yet."""
        return not self.pid


class Shim:
    """The monitor's state, and its answers."""

    def __init__(self, message: Handover, descriptors: list[int]) -> None:
        self._message = message
        groups = _cut(descriptors, message["groups"])
        (self._folder, listener), log, child, sources, stdin, watchers, clients, kept, asked = (
            groups
        )
        self._loop = Loop()
        self._watchers: list[_socket.socket] = []
        self._untold: list[dict[str, Any]] = []
        self._kept = kept
        self._deleting: list[_socket.socket] = []
        self._status = message["status"]
        self._done = False
        self._strays: dict[int, int] = {}
        self._init = _socket.socket(fileno=child[0]) if child else None
        self._pidfd = -1
        self._listener = _socket.socket(fileno=listener)
        file = LogFile(message["log"], *log) if message["log"] else None
        streams = Streams(
            self._loop,
            terminal=message["terminal"],
            close_stdin=message["stdin_once"],
            log=file,
            detached=lambda: self._left(None),
        )
        self._first = Member(None, streams)
        self._first.pid = message["pid"]
        self._members: dict[str | None, Member] = {None: self._first}
        for watcher in watchers:
            self._watch(_socket.socket(fileno=watcher))
        for job, client in zip(message["clients"], clients, strict=True):
            streams.attach(job, client)
        if stdin:
            streams.set_stdin(stdin[0])
        elif message["terminal"] and message["stdin"]:
            streams.set_stdin(sources[0])
        for stream, source in enumerate(sources, STDOUT):
            streams.add_source(source, stream)
        streams.deliver_pending()
        if asked:
            connection = _socket.socket(fileno=asked[0])
            connection.settimeout(_PATIENCE)
            self._handle(connection, message["request"], asked[1:])

    # ---- beginning

    def _streams(self, exec_id: str, stdio: StdioJob, descriptors: list[int]) -> Streams:
        log = stdio["log"]
        file = LogFile(log, descriptors[log["file"]], descriptors[log["folder"]]) if log else None
        return Streams(
            self._loop,
            terminal=stdio["terminal"],
            close_stdin=True,
            log=file,
            held=True,
            detached=lambda: self._left(exec_id),
        )

    def _write(self, name: str, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        staged = f"{name}.new"
        descriptor = os.open(staged, flags, 0o600, dir_fd=self._folder)
        os.write(descriptor, text.encode())
        os.close(descriptor)
        os.rename(staged, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    # ---- life

    def serve(self) -> None:
        """Answer until the container has stopped and everything is delivered."""
        waking, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self._loop.watch(waking, READ, lambda _: self._on_child(waking))
        self._loop.watch(self._listener.fileno(), READ, lambda _: self._on_connection())
        self._reap()  # the first process may have been killed already
        while not self._done or any(member.streams.busy for member in self._members.values()):
            try:
                self._loop.run_once()
            except Exception:  # noqa: BLE001 - the container must not suffer for it
                self._complain()
        with suppress(OSError):
            os.unlink(SOCKET, dir_fd=self._folder)

    def _complain(self) -> None:
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open("shim.log", flags, 0o600, dir_fd=self._folder)
            os.write(descriptor, failure_text().encode())
            os.close(descriptor)

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
            code = os.waitstatus_to_exitcode(status)
            self._buried(pid, code if code >= 0 else 128 - code)

    def _buried(self, pid: int, status: int) -> None:
        for member in list(self._members.values()):
            if member.pid == pid:
                self._ended(member, status)
                return
        if any(member.unborn for member in self._members.values()):
            # It may be one whose pid we are yet to be told.
            self._strays[pid] = status
        else:
            self._strays.clear()

    def _ended(self, member: Member, status: int) -> None:
        member.status = status
        member.finished = time.time()
        if member is self._first:
            self._status = "stopped"
            if not self._message["own_pids"]:
                # In a namespace of its own the kernel has done it.
                for other in self._members.values():
                    if other.status is None and not other.unborn:
                        os.kill(other.pid, signal.SIGKILL)
        if member.executing:
            self._finish(member)

    def _finish(self, member: Member) -> None:
        alone = self._message["own_pids"] and member is self._first
        member.streams.finish(lambda: self._drained(member), alone=alone)

    def _drained(self, member: Member) -> None:
        event: dict[str, Any] = {
            "exec_id": member.exec_id,
            "exit_status": member.status,
            "finished": member.finished,
        }
        if member is self._first:
            with suppress(FileNotFoundError):  # deleted meanwhile
                self._write("exit", f"{member.status} {member.finished!r}\n")
            for descriptor in self._kept:
                os.close(descriptor)
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

    def _tell_or_keep(self, event: dict[str, Any]) -> None:
        if not self._tell(event):
            self._untold = [*self._untold[-_MOST_UNTOLD:], event]

    def _tell(self, event: dict[str, Any]) -> bool:
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
        self._handle(connection, *message)

    def _handle(self, connection: _socket.socket, request: Any, descriptors: list[int]) -> None:
        try:
            reply: Reply | None = getattr(self, f"do_{request['do']}")(
                request, descriptors, connection
            )
        except Exception as error:  # noqa: BLE001 - told to the driver
            self._complain()
            reply = {"error": "internal", "text": f"{type(error).__name__}: {error}"}
        if reply is not None:
            answer(connection, reply)

    def do_state(self, *_: object) -> Reply:
        """Answer with the state."""
        running = self._first.status is None
        return {"status": self._status, "pid": self._first.pid if running else 0}

    def do_start(
        self, request: Any, descriptors: list[int], connection: _socket.socket
    ) -> Reply | None:
        """Let the first process execute; the answer comes once it has or has not."""
        clients = [descriptors[job["socket"]] for job in request["connections"]]
        others = [descriptor for descriptor in descriptors if descriptor not in clients]
        if self._init is None or self._status != "created":
            _close(descriptors)
            return {"error": "conflict", "text": f"it is {self._status}"}
        self._kept += others
        for job, client in zip(request["connections"], clients, strict=True):
            self._first.streams.attach(job, client)
        child, self._init = self._init, None
        self._status = "running"
        with suppress(OSError):  # it has been killed: the answer below says so
            child.send(init.GO)
        self._loop.watch(child.fileno(), READ, lambda _: self._on_started(child, connection))
        return None

    def _on_started(self, child: _socket.socket, connection: _socket.socket) -> None:
        self._loop.unwatch(child.fileno())
        told = receive(child)
        child.close()
        if told is None:
            answer(connection, {"pid": self._first.pid})
        else:
            reply = told[0]
            answer(connection, {"error": "start", "errno": reply["errno"], "text": reply["text"]})

    def do_kill(self, request: Any, *_: object) -> Reply:
        """Send a signal to the first process, or to an added one."""
        member = self._members.get(request["exec_id"])
        if member is None:
            return {"error": "missing", "text": "no such process"}
        if member.unborn:
            return {"error": "conflict", "text": "it has not been started"}
        if member.status is not None:
            return {"error": "conflict", "text": "it has stopped"}
        os.kill(member.pid, request["signal"])
        return {}

    def do_attach(self, request: Any, descriptors: list[int], *_: object) -> Reply:
        """Serve a client."""
        member = self._members.get(request["exec_id"])
        if member is None or member.status is not None:
            _close(descriptors)
            if member is None:
                return {"error": "missing", "text": "no such process"}
            return {"error": "conflict", "text": "it has stopped"}
        member.streams.attach(request["connection"], *descriptors)
        return {"time": time.time_ns()}

    def do_resize(self, request: Any, *_: object) -> Reply:
        """Set a terminal's size."""
        member = self._members.get(request["exec_id"])
        if member is None:
            return {"error": "missing", "text": "no such process"}
        if member.streams.master >= 0:
            with suppress(OSError):  # its last user has just closed it
                set_size(member.streams.master, request["rows"], request["columns"])
        return {}

    def do_watch(self, _: object, __: object, connection: _socket.socket) -> None:
        """Tell of every event from now on, and of those that nobody was told of."""
        self._watch(connection)
        untold, self._untold = self._untold, []
        for event in untold:
            self._tell(event)

    def _watch(self, connection: _socket.socket) -> None:
        self._watchers.append(connection)
        # It never sends: what it polls is its end.
        self._loop.watch(connection.fileno(), READ, lambda _: self._end_watch(connection))

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

    def do_exec(
        self, request: Any, descriptors: list[int], connection: _socket.socket
    ) -> Reply | None:
        """Add a process; the answer comes once it has executed or failed to."""
        job: ExecJob = request["job"]
        if self._status != "running" or job["exec_id"] in self._members:
            _close(descriptors)
            return {"error": "conflict", "text": f"it is {self._status}"}
        stdio = job["stdio"]
        stdio["owner"] = self._host_owner(*stdio["owner"])
        job["process"]["seccomp"] = self._message["seccomp"]
        job["process"]["seccomp_flags"] = self._message["seccomp_flags"]
        member = Member(job["exec_id"], self._streams(job["exec_id"], stdio, descriptors))
        ends: list[int] = []
        if not stdio["terminal"]:
            ends, stdin, sources = open_pipes(stdio, "/null")
            if stdin >= 0:
                member.streams.set_stdin(stdin)
            for stream, source in enumerate(sources, STDOUT):
                member.streams.add_source(source, stream)
        if self._pidfd < 0:
            self._pidfd = os.pidfd_open(self._first.pid)
        ours, theirs = _socket.socketpair()
        if not os.fork():
            joining.run(job, descriptors, self._pidfd, self._message["exec_flags"], theirs, ends)
        self._members[job["exec_id"]] = member
        theirs.close()
        client = job["connection"]
        kept = {client["socket"]} if client else set()
        if stdio["log"]:
            kept |= {stdio["log"]["file"], stdio["log"]["folder"]}
        _close([*ends, *(item for n, item in enumerate(descriptors) if n not in kept)])
        attached = (client, descriptors[client["socket"]]) if client else None
        self._loop.watch(
            ours.fileno(),
            READ,
            lambda _: self._on_executed(member, stdio, ours, connection, attached),
        )
        return None

    def _host_owner(self, uid: int, gid: int) -> tuple[int, int]:
        return _map(self._message["uid_map"], uid), _map(self._message["gid_map"], gid)

    def _on_executed(
        self,
        member: Member,
        stdio: StdioJob,
        child: _socket.socket,
        connection: _socket.socket,
        attached: tuple[ConnectionJob, int] | None,
    ) -> None:
        told = receive(child)
        if told is not None and "pid" in told[0]:
            self._born(member, told[0]["pid"])
            return
        if told is not None and "error" not in told[0]:
            member.streams.add_source(told[1][0], STDOUT)
            if stdio["stdin"]:
                member.streams.set_stdin(told[1][0])
            return
        self._loop.unwatch(child.fileno())
        child.close()
        if told is None and member.unborn:
            told = {"error": "start", "errno": 0, "text": "the process has ended too early"}, []
        if told is None:
            if attached:
                member.streams.attach(*attached)
            answer(connection, {"pid": member.pid})
            member.executing = True
            member.streams.release()
            if member.status is not None:  # it has ended already
                self._finish(member)
            return
        del self._members[member.exec_id]
        member.streams.discard()
        if attached:
            os.close(attached[1])
        answer(connection, told[0])

    def _born(self, member: Member, pid: int) -> None:
        """Take over an added process, which may have ended meanwhile."""
        status = self._strays.pop(pid, None)
        if not member.unborn or (status is None and not joining.is_child(pid)):
            return
        member.pid = pid
        if status is not None:
            self._ended(member, status)
        elif self._first.status is not None and not self._message["own_pids"]:
            os.kill(pid, signal.SIGKILL)  # as those that were there when the first ended


def _map(table: bytes, number: int) -> int:
    for line in table.splitlines():
        inside, outside, size = map(int, line.split())
        if inside <= number < inside + size:
            return outside + number - inside
    return number


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def answer(connection: _socket.socket, reply: Reply) -> None:
    """Send a reply to whoever still waits for it, and close."""
    with suppress(OSError):
        send(connection, reply)
    connection.close()


def _cut(descriptors: list[int], lengths: list[int]) -> list[list[int]]:
    groups = []
    for length in lengths:
        groups.append(descriptors[:length])
        descriptors = descriptors[length:]
    return groups


def settle() -> None:
    """Make this process a shim's, in a session of its own."""
    os.setsid()
    set_name("pannier-shim")


def woken(*_: object) -> None:
    """Handle a signal: that it came is all that counts."""


def _bury() -> None:
    """Reap what the midwife left behind: it is dying, and would be nobody's."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def main(midwife: _socket.socket) -> NoReturn:
    """Be a shim: wait for a container to be handed over, and serve it."""
    status = 1
    try:
        settle()
        message = receive(midwife)
        midwife.close()
        if message is not None:
            gc.enable()
            set_child_subreaper()
            Shim(*message).serve()
            status = 0
        else:
            _bury()
    finally:
        os._exit(status)
