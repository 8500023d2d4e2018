"""From the OCI specification's ``process``, and from clients, to what a monitor is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from pannier.drivers.logfile import open_for_appending
from pannier.drivers.operations import Step
from pannier.errors import DriverError, InvalidRequest
from pannier.linux.capabilities import CAPABILITIES, permitted
from pannier.linux.rlimits import RLIMITS
from pannier.linux.seccomp import compile_filter, filter_flags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pannier.drivers import oci
    from pannier.drivers.base import IdMap
    from pannier.drivers.runtime import Connection, StdioSpec
    from pannier.runtimes.descriptors import DescriptorList
    from pannier.runtimes.jobs import ProcessJob, SchedulingJob, StdioJob
    from pannier.stdio.jobs import ConnectionJob, LogJob

__all__ = ["connection_job", "process_job", "process_steps", "stdio_job"]

_UMASK = 0o022


def process_job(
    process: oci.Process,
    seccomp: oci.Seccomp | None,
    *,
    check_capabilities: bool,
    tied: bool = True,
    scheduling: SchedulingJob | None = None,
    profile: str = "",
) -> ProcessJob:
    """Check a process and turn it into a message.

    :param check_capabilities: it gets no others than we have ourselves. Not so in a user namespace,
        which has them all.
    :param tied: it is killed when its parent ends.
    :param profile: of AppArmor, to confine it by; empty for none.

    :raises InvalidRequest: something in it is malformed.
    :raises DriverError: it asks for a capability that we do not have ourselves.
    """
    if not process["args"] or not process["args"][0]:
        raise InvalidRequest("no command was given")
    if not process["cwd"].startswith("/"):
        raise InvalidRequest(f"the working directory {process['cwd']!r} is not an absolute path")
    user = process["user"]
    program, flags = (b"", 0) if seccomp is None else _filter(seccomp)
    return {
        "args": [_encode(word, "an argument") for word in process["args"]],
        "env": [_encode(word, "an environment variable") for word in process.get("env", ())],
        "cwd": _encode(process["cwd"], "the working directory"),
        "uid": user["uid"],
        "gid": user["gid"],
        "groups": list(user.get("additionalGids", ())),
        "umask": user.get("umask", _UMASK),
        "rlimits": _rlimits(process.get("rlimits", ())),
        "capabilities": _capabilities(process, check=check_capabilities),
        "no_new_privileges": process.get("noNewPrivileges", False),
        "seccomp": program,
        "seccomp_flags": flags,
        "oom_score_adj": process.get("oomScoreAdj"),
        "apparmor": _encode(profile, "the AppArmor profile"),
        "tied": tied,
        "scheduling": scheduling,
    }


def _encode(text: str, what: str) -> bytes:
    if "\0" in text:
        raise InvalidRequest(f"{what} contains a zero byte: {text!r}")
    return os.fsencode(text)


def _filter(profile: oci.Seccomp) -> tuple[bytes, int]:
    plain = cast("Mapping[str, object]", profile)
    try:
        return compile_filter(plain), filter_flags(plain)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _rlimits(limits: Iterable[oci.Rlimit]) -> list[tuple[str, int, int]]:
    found = [_rlimit(limit) for limit in limits]
    if len({name for name, _, _ in found}) < len(found):
        raise InvalidRequest("process.rlimits names a resource limit twice")
    return found


def _rlimit(limit: oci.Rlimit) -> tuple[str, int, int]:
    if limit["type"] not in RLIMITS:
        raise InvalidRequest(f"unknown resource limit {limit['type']!r}")
    # Beyond 63 bits a message of ours carries it well; the kernel's infinity is all ones.
    return limit["type"], limit["soft"], limit["hard"]


def _capabilities(
    process: oci.Process, *, check: bool
) -> tuple[list[str], list[str], list[str], list[str], list[str]] | None:
    sets = process.get("capabilities")
    if sets is None:
        return None
    wanted = [
        list(sets.get("bounding", ())),
        list(sets.get("effective", ())),
        list(sets.get("permitted", ())),
        list(sets.get("inheritable", ())),
        list(sets.get("ambient", ())),
    ]
    names = {name for group in wanted for name in group}
    unknown = sorted(names - CAPABILITIES.keys())
    if unknown:
        raise InvalidRequest(f"unknown capability {', '.join(unknown)}")
    if check and (missing := sorted(names - permitted())):
        raise DriverError(
            f"the capability {', '.join(missing)} was asked for, which the engine itself lacks",
            hint="leave it out, or give it to the engine's own process",
        )
    return wanted[0], wanted[1], wanted[2], wanted[3], wanted[4]


def process_steps(job: ProcessJob) -> list[Step]:
    """Say what happens to the process between its start and its program."""
    steps = [Step("set limit", name, f"{soft}:{hard}") for name, soft, hard in job["rlimits"]]
    if job["oom_score_adj"] is not None:
        steps.append(Step("write", "oom_score_adj", str(job["oom_score_adj"])))
    steps.append(Step("set umask", f"{job['umask']:04o}"))
    groups = ",".join(map(str, job["groups"]))
    steps.append(Step("set user", f"{job['uid']}:{job['gid']}", groups and f"groups {groups}"))
    if job["capabilities"] is not None:
        names = ("bounding", "effective", "permitted", "inheritable", "ambient")
        for name, members in zip(names, job["capabilities"], strict=True):
            steps.append(Step(f"set {name} capabilities", " ".join(members) or "none"))
    if job["apparmor"]:
        steps.append(Step("confine by AppArmor", os.fsdecode(job["apparmor"])))
    if job["no_new_privileges"]:
        steps.append(Step("set", "no_new_privs"))
    if job["seccomp"]:
        steps.append(Step("install", "seccomp filter", f"{len(job['seccomp']) // 8} instructions"))
    steps.append(Step("execute", os.fsdecode(b" ".join(job["args"])), "when started"))
    return steps


def stdio_job(
    stdio: StdioSpec, process: oci.Process, idmap: IdMap | None, descriptors: DescriptorList
) -> StdioJob:
    """Turn a process's streams into a message, with the log to be opened.

    :raises InvalidRequest: the user's ids are not mapped.
    """
    uid, gid = process["user"]["uid"], process["user"]["gid"]
    if idmap is not None:
        try:
            uid, gid = idmap.host_uid(uid), idmap.host_gid(gid)
        except ValueError as error:
            raise InvalidRequest(f"user {uid}:{gid}: {error} in the user namespace") from error
    rows, columns = stdio.size
    size = process.get("consoleSize")
    if not (rows or columns) and size:
        rows, columns = size["height"], size["width"]
    log: LogJob | None = None
    if stdio.log is not None:
        path = stdio.log.path
        log = {
            "file": descriptors.add(lambda: open_for_appending(path)),
            "folder": descriptors.add_path(path.parent, os.O_PATH | os.O_DIRECTORY, "log folder"),
            "name": os.fsencode(path.name),
            "max_size": stdio.log.max_size,
            "max_files": max(1, stdio.log.max_files),
        }
    return {
        "terminal": stdio.terminal,
        "stdin": stdio.stdin,
        "stdin_once": stdio.stdin_once,
        "rows": rows,
        "columns": columns,
        "owner": (uid, gid),
        "log": log,
    }


def connection_job(connection: Connection, index: int) -> ConnectionJob:
    """Turn a client's connection into a message."""
    return {
        "socket": index,
        "stdin": connection.stdin,
        "stdout": connection.stdout,
        "stderr": connection.stderr,
        "pending": bytes(connection.pending),
        "detach_keys": bytes(connection.detach_keys),
        "framed": connection.framed,
    }
