"""From the contract's requests to a monitor's jobs, with the descriptors that go with them."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pannier.drivers import logfile
from pannier.errors import DriverError, InvalidRequest
from pannier.linux.mounts import clone_tree

from pannier_runtime_oci.bundle import process_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pannier.drivers.runtime import Connection, CreateRequest, ExecRequest, StdioSpec
    from pannier.stdio.jobs import ConnectionJob

    from pannier_runtime_oci.bundle import Bind, Bundle
    from pannier_runtime_oci.jobs import BindJob, ContainerJob, ExecJob, StdioJob

__all__ = ["connection_job", "container_job", "descriptor_list", "exec_job"]


@contextmanager
def descriptor_list() -> Iterator[list[int]]:
    """Give a list whose descriptors are closed in the end."""
    descriptors: list[int] = []
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def container_job(
    request: CreateRequest,
    bundle: Bundle,
    folder: Path,
    runtime: str,
    descriptors: list[int],
) -> ContainerJob:
    """Return what a monitor needs to create a container; *descriptors* takes what goes with it.

    :param runtime: the program.
    :raises DriverError: the log or a control group's file cannot be opened.
    :raises InvalidRequest: what is to be bound is not there.
    """
    descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    descriptors.append(os.dup(request.root))
    groups = bundle.groups
    return {
        "id": request.id,
        "runtime": runtime,
        "folder": 0,
        "root": 1,
        "group": bundle.group,
        "procs": _procs(request.procs, descriptors),
        "binds": [_bind(bind, descriptors) for bind in bundle.binds],
        "groups": None
        if groups is None
        else {"groups": [_bind(bind, descriptors) for bind in groups], "links": bundle.links},
        "own_pids": bundle.own_pids,
        "own_cgroups": bundle.own_cgroups,
        "stdio": _stdio(request.stdio, descriptors),
    }


def exec_job(request: ExecRequest, descriptors: list[int]) -> ExecJob:
    """Return what a monitor needs to add a process; *descriptors* takes what goes with it.

    :raises DriverError: as :func:`container_job`.
    :raises UnsupportedOperation: a field of the process is not offered.
    """
    job: ExecJob = {
        "exec_id": request.exec_id,
        "process": json.dumps(process_of(request.process, request.stdio)),
        "stdio": _stdio(request.stdio, descriptors),
        "procs": _procs(request.procs, descriptors),
        "client": None,
    }
    if request.connection is not None:
        job["client"] = connection_job(request.connection, len(descriptors))
        descriptors.append(os.dup(request.connection.socket))
    return job


def connection_job(connection: Connection, descriptor: int) -> ConnectionJob:
    """Return what a monitor is told of a client."""
    return {
        "socket": descriptor,
        "stdin": connection.stdin,
        "stdout": connection.stdout,
        "stderr": connection.stderr,
        "pending": bytes(connection.pending),
        "detach_keys": bytes(connection.detach_keys),
        "framed": connection.framed,
    }


def _stdio(stdio: StdioSpec, descriptors: list[int]) -> StdioJob:
    job: StdioJob = {
        "terminal": stdio.terminal,
        "stdin": stdio.stdin,
        "stdin_once": stdio.stdin_once,
        "log": None,
    }
    if stdio.log is not None:
        path = stdio.log.path
        descriptors.append(logfile.open_for_appending(path))
        descriptors.append(_open(path.parent, os.O_PATH | os.O_DIRECTORY))
        job["log"] = {
            "file": len(descriptors) - 2,
            "folder": len(descriptors) - 1,
            "name": os.fsencode(path.name),
            "max_size": stdio.log.max_size,
            "max_files": max(1, stdio.log.max_files),
        }
    return job


def _procs(paths: Sequence[Path], descriptors: list[int]) -> list[int]:
    first = len(descriptors)
    descriptors += [_open(path, os.O_WRONLY | os.O_APPEND) for path in paths]
    return list(range(first, len(descriptors)))


def _bind(bind: Bind, descriptors: list[int]) -> BindJob:
    try:
        descriptors.append(clone_tree(bind.source, recursive=bind.recursive))
    except FileNotFoundError as error:
        raise InvalidRequest(
            f"cannot bind {bind.source} to {bind.destination}: "
            f"bind source path does not exist: {bind.source}",
            hint="create it, or name a volume instead",
        ) from error
    except OSError as error:
        raise DriverError(
            f"cannot bind {bind.source} to {bind.destination}: {error.strerror}"
        ) from error
    return {"tree": len(descriptors) - 1, "place": bind.place}


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise DriverError(f"cannot open {path}: {error.strerror}") from error
