"""``exec``: a further process in a container that runs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pannier.drivers.runtime import StdioSpec
from pannier.errors import Conflict, InvalidRequest
from pannier.runtimes.descriptors import DescriptorList
from pannier.runtimes.processes import process_job, stdio_job
from pannier_oci.bundle import grant, id_map, load_process
from pannier_oci.console import check_console, send_console, write_pid
from pannier_oci.handed import kept_descriptors
from pannier_oci.helper import Helper, close_all, failure
from pannier_runtime_native.composing import cpu_list, profile_of, scheduling_job
from pannier_runtime_native.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pannier.drivers import oci
    from pannier_oci.records import Record, Records
    from pannier_runtime_native.messages import ExecJob

__all__ = ["ExecOptions", "execute", "passing_signals_to"]

_STREAMS = (0, 1, 2)
_PATIENCE = 10.0
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What the command line said; None leaves a thing as the container's process has it.

    :param process: a file that describes the process whole.
    :param user: ``UID[:GID]``.
    """

    process: Path | None = None
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: tuple[str, ...] = ()
    user: str | None = None
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    tty: bool = False
    no_new_privileges: bool = False
    detach: bool = False
    console: Path | None = None
    pid_file: Path | None = None
    preserve: int = 0
    ignore_paused: bool = False


def execute(records: Records, root: Path, id: str, options: ExecOptions) -> int:
    """Start a process in a container; return its exit status, 0 where it was detached.

    :raises Conflict: the container does not run.
    :raises StartFailed: the program cannot be executed.
    """
    record = records.read(id)
    status = record.status()
    if status == "paused" and not options.ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in {"created", "running", "paused"}:
        raise Conflict(f"cannot exec in a {status} container")
    process = _process(record, options)
    terminal = process.get("terminal", False)
    check_console(options.console, terminal=terminal, detached=options.detach)
    descriptors = DescriptorList()
    procs = _procs(record, root)
    request = _request(record, process, options, descriptors, procs=procs)
    streams = [] if terminal else list(_STREAMS)
    with descriptors.opened() as opened, Helper() as helper:
        request["streams"] = len(streams)
        helper.ask(request, [*opened, *streams])
        reply, received = helper.answer()
        try:
            if "error" in reply:
                raise failure(reply)
            _hand_over(options, reply["pid"], *received)
        finally:
            close_all(received)
        if options.detach:
            return 0
        with passing_signals_to(reply["pid"]):
            reply, _ = helper.answer()
        return reply["exit_status"]


def _hand_over(options: ExecOptions, pid: int, process: int, *masters: int) -> None:
    """Tell our caller of the process; one that it does not learn of is not left running.

    :param process: a pidfd of it.
    """
    try:
        if options.console is not None:
            send_console(options.console, masters)
        write_pid(options.pid_file, pid)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _PATIENCE)
        raise


def _process(record: Record, options: ExecOptions) -> oci.Process:
    """Return the process to add: a file's, or the container's own with other arguments."""
    if options.process is not None:
        described = cast("dict[str, Any]", load_process(options.process))
        # What it says nothing of confines it as the container's own process.
        for name in ("capabilities", "apparmorProfile"):
            if name in record.spec["process"]:
                described.setdefault(name, cast("dict[str, Any]", record.spec["process"])[name])
        process = cast("oci.Process", described)
    else:
        if not options.args:
            raise InvalidRequest("process args cannot be empty")
        own = cast("dict[str, Any]", dict(record.spec["process"]))
        own["args"] = list(options.args)
        own["terminal"] = options.tty
        own["env"] = [*own.get("env", ()), *options.env]
        if options.cwd is not None:
            own["cwd"] = options.cwd
        if options.user is not None:
            own["user"] = _user(options.user)
        if options.groups:
            own["user"] = {**own["user"], "additionalGids": list(options.groups)}
        if options.no_new_privileges:
            own["noNewPrivileges"] = True
        if options.capabilities:
            own["capabilities"] = _with(own.get("capabilities") or {}, options.capabilities)
        process = cast("oci.Process", own)
    grant(process, mapped=id_map(record.spec) is not None)
    spec = cast("oci.Spec", {**record.spec, "process": process})
    refuse(spec, solo=True)
    return process


def _user(text: str) -> dict[str, int]:
    uid, _, gid = text.partition(":")
    try:
        return {"uid": int(uid), "gid": int(gid or 0)}
    except ValueError as error:
        raise InvalidRequest(f"--user {text!r} is not UID[:GID], in numbers") from error


def _with(sets: dict[str, list[str]], names: tuple[str, ...]) -> dict[str, list[str]]:
    """Return capability sets with more in all but the ambient and inheritable ones."""
    more = [name.upper() for name in names]
    return sets | {
        kind: sorted({*sets.get(kind, ()), *more})
        for kind in ("bounding", "effective", "permitted")
    }


def _procs(record: Record, root: Path) -> tuple[str, ...]:
    """Return where the process enters the control group."""
    if not record.group.hands_down():
        return record.group.procs
    # A service manager runs in it: the driver knows the group that takes processes.
    from pannier_oci.groups import open_groups  # noqa: PLC0415 - seldom needed, and slow to load

    with open_groups(root, record.group.driver) as groups:
        return groups.procs(record.group)


def _request(
    record: Record,
    process: oci.Process,
    options: ExecOptions,
    descriptors: DescriptorList,
    *,
    procs: Iterable[str],
) -> dict[str, Any]:
    linux = record.spec["linux"]
    affinity = cast("dict[str, Any]", process).get("execCPUAffinity") or {}
    initial = affinity.get("initial")
    idmap = id_map(record.spec)
    job: ExecJob = {
        "exec_id": "",
        "process": process_job(
            process,
            linux.get("seccomp"),
            check_capabilities=idmap is None,
            tied=False,
            scheduling=scheduling_job(dict(process), dict(linux), affinity=True),
            profile=profile_of(process),
        ),
        "stdio": stdio_job(
            StdioSpec(terminal=process.get("terminal", False)), process, idmap, descriptors
        ),
        "procs": [descriptors.add_path(path, os.O_WRONLY, "the control group's") for path in procs],
        "connection": None,
    }
    return {
        "do": "exec",
        "job": job,
        "container": descriptors.add(lambda: _hold(record)),
        "namespaces": record.namespaces,
        "kept": [descriptors.add(_duplicate(kept)) for kept in kept_descriptors(options.preserve)],
        "initial": cpu_list(initial) if initial else None,
        "detach": options.detach,
        "keyring": record.id.encode() if record.new_keyring else b"",
    }


def _duplicate(descriptor: int) -> Any:
    return lambda: os.dup(descriptor)


def _hold(record: Record) -> int:
    """Return a descriptor of the first process, and of no other that has its pid by now."""
    pidfd = os.pidfd_open(record.pid)
    if not record.alive():
        os.close(pidfd)
        raise Conflict("cannot exec in a stopped container")
    return pidfd


@contextlib.contextmanager
def passing_signals_to(pid: int) -> Iterator[None]:
    """Have what is sent to us sent to another process meanwhile."""

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
