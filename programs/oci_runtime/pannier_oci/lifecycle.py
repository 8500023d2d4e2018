"""What happens to a container that there is: ``start``, ``kill``, ``delete``, ``pause``."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound
from pannier.runtimes.channel import receive
from pannier_oci.awaiting import connect
from pannier_oci.helper import failure
from pannier_oci.hooking import run_hooks, run_last_hooks
from pannier_runtime_native.init import GO
from pannier_runtime_native.soloist import TAKEN

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pannier_oci.groups import Groups
    from pannier_oci.records import Record, Records

__all__ = ["await_end", "delete", "kill", "pause", "resume", "send_signal", "start"]

_PATIENCE = 10.0


def start(records: Records, root: Path, id: str) -> None:
    """Let a created container's program execute; return once it does, and hooks have run.

    :raises Conflict: it is not created (any more).
    :raises InvalidRequest: its configuration has no process.
    :raises StartFailed: the program cannot be executed; the container has stopped then.
    :raises DriverError: a hook has failed; the container is deleted then, its last hooks have run.
        Or the first process does not answer; nothing has happened then.
    """
    record = records.read(id)
    status = record.status()
    if status != "created":
        raise Conflict(f"cannot start a container that is {status}: {id}")
    if not record.startable:
        raise InvalidRequest(f"cannot start {id}: its configuration has no process")
    connection = connect(record.folder)
    if connection is None:
        raise Conflict(f"cannot start a container that has been started already: {id}")
    with connection:
        try:
            connection.send(GO)
            taken = connection.recv(1)
        except TimeoutError as error:
            raise DriverError(
                f"cannot start {id}: its first process does not answer",
                hint="it may be stopped by a signal, or paused",
            ) from error
        except OSError:
            taken = b""
        if taken != TAKEN:
            raise Conflict(f"cannot start a container that has been started already: {id}")
        connection.settimeout(None)  # hooks take as long as they do
        told = receive(connection)
    if told is not None:
        await_end(record)
        if told[0]["error"] == "hook":
            _destroy(records, record, root)
            raise DriverError(told[0]["text"])
        raise failure(told[0])
    try:
        run_hooks("poststart", record.spec, record.state("running"))
    except DriverError:
        _destroy(records, record, root)
        raise


def _groups(record: Record, root: Path) -> AbstractContextManager[Groups]:
    # Loaded when it is needed: most signals, and nearly every start, do without.
    from pannier_oci.groups import open_groups  # noqa: PLC0415

    return open_groups(root, record.group.driver)


def _destroy(records: Records, record: Record, root: Path) -> None:
    """Undo what ``create`` has made, whatever still runs, and run the hooks for that."""
    with _groups(record, root) as groups:
        if record.status() != "stopped":
            groups.kill(record.group)
            await_end(record)
        groups.delete(record.group)
    run_last_hooks(record.spec, record.state("stopped"))
    records.remove(record.id)


def send_signal(record: Record, number: int) -> None:
    """Send a signal to the first process, and to no other that has its pid by now.

    :raises Conflict: it has stopped.
    """
    try:
        pidfd = os.pidfd_open(record.pid)
    except (ProcessLookupError, OSError) as error:
        raise Conflict("container not running") from error
    try:
        if not record.alive():
            raise Conflict("container not running")
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError as error:
            raise Conflict("container not running") from error
    finally:
        os.close(pidfd)


def await_end(record: Record) -> None:
    """Wait until the first process has ended, whoever reaps it.

    :raises DriverError: it does not end.
    """
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return
    try:
        if record.alive():
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_PATIENCE * 1000):
                raise DriverError(f"the first process of {record.id} does not end, although killed")
    finally:
        os.close(pidfd)


def kill(records: Records, root: Path, id: str, number: int, *, everyone: bool) -> None:
    """Send a signal to a container's first process, or to every process that it has.

    :raises Conflict: it is neither created nor running.
    """
    record = records.read(id)
    status = record.status()
    if everyone or (number == signal.SIGKILL and (status == "paused" or not record.own_pids)):
        _kill_group(record, root, number, status=status, everyone=everyone)
        return
    if status not in {"created", "running", "paused"}:
        raise Conflict("container not running")
    send_signal(record, number)


def _kill_group(record: Record, root: Path, number: int, *, status: str, everyone: bool) -> None:
    if status in {"stopped", "creating"} and not everyone:
        raise Conflict("container not running")
    with _groups(record, root) as groups:
        if number == signal.SIGKILL:
            groups.kill(record.group)
            return
        for pid in groups.pids(record.group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def pause(records: Records, root: Path, id: str) -> None:
    """Stop every process of a container.

    :raises Conflict: it is neither created nor running.
    """
    record = records.read(id)
    status = record.status()
    if status not in {"created", "running"}:
        raise Conflict(f"container not running: {id} is {status}")
    with _groups(record, root) as groups:
        groups.freeze(record.group)


def resume(records: Records, root: Path, id: str) -> None:
    """Let a paused container go on.

    :raises Conflict: it is not paused.
    """
    record = records.read(id)
    if not (record.alive() and record.group.frozen()):
        raise Conflict(f"container not paused: {id} is {record.status()}")
    with _groups(record, root) as groups:
        groups.thaw(record.group)


def delete(records: Records, root: Path, id: str, *, force: bool) -> None:
    """Undo what ``create`` has made, and run the hooks for that.

    :param force: kill what still runs; a container that is not there is no error.
    :raises Conflict: it has not stopped.
    :raises NotFound: there is no such container.
    """
    try:
        record = records.read(id)
    except NotFound:
        if not force:
            raise
        records.remove(id)  # what a create that was killed early has left
        return
    status = record.status()
    if status != "stopped" and not force:
        raise Conflict(
            f"cannot delete container {id} that is not stopped: {status}",
            hint="kill it first, or delete it with --force",
        )
    _destroy(records, record, root)
