"""``create``: from a bundle to a container whose process awaits its start."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.operations import Transaction
from pannier.drivers.runtime import CreateRequest, StdioSpec
from pannier.errors import DriverError, InvalidRequest
from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_NEWPID
from pannier_oci.awaiting import listen, lock
from pannier_oci.bundle import grant, id_map, learn_maps, load_spec
from pannier_oci.console import check_console, send_console, write_pid
from pannier_oci.groups import open_groups
from pannier_oci.handed import kept_descriptors
from pannier_oci.helper import Helper, close_all, failure
from pannier_oci.hooking import run_hooks, run_last_hooks
from pannier_oci.records import Record, start_time
from pannier_runtime_native.composing import Solo
from pannier_runtime_native.planning import draw
from pannier_runtime_native.refusals import PROPAGATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers import oci
    from pannier.drivers.base import IdMap
    from pannier_oci.groups import Groups
    from pannier_oci.records import Records
    from pannier_runtime_native.messages import Reply
    from pannier_runtime_native.planning import Blueprint

__all__ = ["CreateOptions", "create"]

_STREAMS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What the command line said.

    :param preserve: how many descriptors from 3 on the container's process is given, behind those
        *listening* that a service manager has passed on.
    :param new_keyring: the container gets a session keyring of its own.
    """

    bundle: Path
    console: Path | None = None
    pid_file: Path | None = None
    preserve: int = 0
    listening: int = 0
    new_keyring: bool = True


def create(records: Records, root: Path, id: str, options: CreateOptions) -> Record:
    """Create a container; a failure leaves nothing of it.

    :raises Conflict: there is one of that id.
    :raises InvalidRequest: the bundle is malformed.
    :raises UnsupportedOperation: it asks for something that is not offered, by name.
    :raises DriverError: a hook or a step failed.
    """
    bundle = options.bundle.absolute()
    spec, idmap, startable = _load(bundle)
    terminal = spec["process"].get("terminal", False)
    check_console(options.console, terminal=terminal, detached=True)
    kept = tuple(kept_descriptors(options.listening + options.preserve))
    _tell_of_sockets(spec, options.listening)
    transaction = Transaction()
    with contextlib.ExitStack() as undo, open_groups(root) as groups:
        group = groups.find(id, spec)
        folder = records.create(id)
        undo.callback(records.remove, id)
        record = Record(
            id=id,
            bundle=str(bundle),
            rootfs=os.path.realpath(spec["root"]["path"]),
            created=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            spec=spec,
            group=group,
            new_keyring=options.new_keyring,
            startable=startable,
            folder=folder,
        )
        with _opened_root(spec) as mount:
            request = CreateRequest(
                id=id,
                spec=spec,
                root=mount,
                stdio=StdioSpec(terminal=terminal, stdin=True),
                procs=tuple(Path(path) for path in group.procs),
                idmap=idmap,
                cgroup_mounts=dict(groups.mount_points()),
            )
            blueprint = draw(request, folder, _alone(record, kept))
            records.write(record)
            undo.callback(run_last_hooks, spec, record.state("stopped"))
            group = groups.create(group, spec, transaction)
            undo.callback(transaction.rollback)
            record = replace(record, group=group)
            record = _bring_up(records, record, blueprint, options, groups=groups, undo=undo)
        undo.pop_all()
    return record


def _load(bundle: Path) -> tuple[oci.Spec, IdMap | None, bool]:
    """Return the bundle's configuration, completed; its maps; and whether it can be started."""
    spec = load_spec(bundle)
    startable = bool(spec["process"]["args"])
    if not startable:
        spec["process"]["args"] = ["/"]  # which is never executed: start refuses before
    learn_maps(spec)
    idmap = id_map(spec)
    grant(spec["process"], mapped=idmap is not None)
    return spec, idmap, startable


def _alone(record: Record, kept: tuple[int, ...]) -> Solo:
    """Return how a container is made that no monitor looks after."""
    return Solo(
        listener=lambda: listen(record.folder),
        lock=lambda: lock(record.folder),
        place=record.rootfs,
        state=record.state("creating"),
        kept=kept,
        startable=record.startable,
        keyring=record.id if record.new_keyring else "",
    )


def _tell_of_sockets(spec: oci.Spec, count: int) -> None:
    """Tell the process of sockets that a service manager has passed on: sd_listen_fds(3)."""
    if count:
        own = spec["process"].get("env", [])
        spec["process"]["env"] = [*own, f"LISTEN_FDS={count}", "LISTEN_PID=1"]


@contextlib.contextmanager
def _opened_root(spec: oci.Spec) -> Iterator[int]:
    """Hold a detached mount of the root, from which nothing reaches the host's."""
    path = spec["root"]["path"]
    propagation = PROPAGATION.get(spec["linux"].get("rootfsPropagation", ""), 0)
    try:
        mount = mounts.clone_tree(path, recursive=True)
    except OSError as error:
        raise InvalidRequest(f"the root {path}: {error.strerror}") from error
    try:
        inward = propagation == mounts.MS_SLAVE
        kind = mounts.MS_SLAVE if inward else mounts.MS_PRIVATE
        mounts.mount_setattr(mount, propagation=kind, recursive=True)
        yield mount
    finally:
        os.close(mount)


def _bring_up(
    records: Records,
    record: Record,
    blueprint: Blueprint,
    options: CreateOptions,
    *,
    groups: Groups,
    undo: contextlib.ExitStack,
) -> Record:
    streams = [] if blueprint.job["stdio"]["terminal"] else list(_STREAMS)
    with blueprint.descriptors.opened() as descriptors, Helper() as helper:
        undo.callback(groups.kill, record.group)
        request = {"do": "create", "job": blueprint.job, "streams": len(streams)}
        helper.ask(request, [*descriptors, *streams])
        reply, masters = helper.answer()
        if "hooks" in reply:
            record = _born(record, blueprint, reply)
            records.write(record)
            state = record.state("creating")
            run_hooks("prestart", record.spec, state)
            run_hooks("createRuntime", record.spec, state)
            helper.agree()
            reply, masters = helper.answer()
        try:
            if "error" in reply:
                raise failure(reply, blueprint)
            record = replace(_born(record, blueprint, reply), complete=True)
            records.write(record)
            if options.console is not None:
                send_console(options.console, masters)
            write_pid(options.pid_file, record.pid)
            helper.agree()
        finally:
            close_all(masters)
    return record


def _born(record: Record, blueprint: Blueprint, reply: Reply) -> Record:
    """Return the record with the first process; what it holds of namespaces is known by now."""
    pid = reply["pid"]
    born = start_time(pid)
    if born < 0:
        raise DriverError("the container's first process has ended too early")
    job = blueprint.job
    namespaces = job["exec_flags"]
    if job["own_pids"] or any(flag == CLONE_NEWPID for _, flag in job["joins"]):
        namespaces |= CLONE_NEWPID
    return replace(record, pid=pid, born=born, namespaces=namespaces, own_pids=job["own_pids"])
