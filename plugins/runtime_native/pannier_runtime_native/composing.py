"""What a container without a monitor has besides: from the specification to the job's own part."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pannier.errors import InvalidRequest
from pannier.linux.apparmor import is_enabled
from pannier.linux.scheduling import IO_CLASSES, PERSONALITIES, POLICIES, SCHEDULER_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pannier.drivers import oci
    from pannier.runtimes.descriptors import DescriptorList
    from pannier_runtime_native.messages import HookJob, SchedulingJob, SoloJob

__all__ = [
    "Solo",
    "cpu_list",
    "hook_jobs",
    "profile_of",
    "scheduling_job",
    "solo_job",
    "split_state",
]

_MOST_NICE = 19
_IO_PRIORITIES = range(8)
_CLOCKS = ("monotonic", "boottime")
_NANOSECONDS = 1_000_000_000
_MOST_CPUS = 1 << 16


@dataclass(frozen=True, slots=True)
class Solo:
    """A container that is to have no monitor.

    :param listener: opens the socket on which its start is awaited.
    :param lock: opens a file, and locks it as long as that is so.
    :param kept: descriptors of ours that become its process's 3 and up.
    :param place: where the bundle has the root.
    :param state: the container's state while it is made, as hooks get it.
    :param startable: there is a program to look for.
    :param keyring: names the session keyring that it gets; empty for its caller's.
    """

    listener: Callable[[], int]
    lock: Callable[[], int]
    place: str
    state: Mapping[str, object]
    kept: tuple[int, ...] = ()
    startable: bool = True
    keyring: str = ""


def solo_job(solo: Solo, spec: oci.Spec, descriptors: DescriptorList, time: str | None) -> SoloJob:
    """Turn it into a message.

    :param time: the path of the time namespace to join, empty for a new one, None for ours.
    :raises InvalidRequest: a hook or an offset is malformed.
    """
    hooks = spec.get("hooks", {})
    create_hooks = hook_jobs("createContainer", hooks.get("createContainer", ()))
    linux: dict[str, Any] = dict(spec["linux"])
    offsets = _offsets(linux.get("timeOffsets") or {})
    if offsets and time != "":
        raise InvalidRequest("linux.timeOffsets needs a time namespace of the container's own")
    return {
        "listener": descriptors.add(solo.listener),
        "lock": descriptors.add(solo.lock),
        "kept": [descriptors.add(_duplicate(descriptor)) for descriptor in solo.kept],
        "place": os.fsencode(solo.place) if create_hooks else b"",
        "create_state": split_state(solo.state),
        "start_state": split_state({**solo.state, "status": "created"}),
        "create_hooks": create_hooks,
        "start_hooks": hook_jobs("startContainer", hooks.get("startContainer", ())),
        "time": descriptors.add_path(time, os.O_RDONLY, "the time namespace") if time else -1,
        "new_time": time == "",
        "time_offsets": offsets,
        "keyring": solo.keyring.encode(),
        "startable": solo.startable,
    }


def _duplicate(descriptor: int) -> Callable[[], int]:
    return lambda: os.dup(descriptor)


def split_state(state: Mapping[str, object]) -> tuple[bytes, bytes]:
    """Return a state in JSON, before and behind the pid, which is not known yet."""
    rest = {key: value for key, value in state.items() if key != "pid"}
    return b'{"pid": ', f", {json.dumps(rest)[1:]}".encode()


def hook_jobs(kind: str, hooks: Iterable[oci.Hook]) -> list[HookJob]:
    """Turn hooks into messages.

    :raises InvalidRequest: a path is not absolute, or a timeout not positive.
    """
    jobs: list[HookJob] = []
    for hook in hooks:
        path, timeout = hook["path"], hook.get("timeout")
        if not path.startswith("/"):
            raise InvalidRequest(f"hooks.{kind}: the path {path!r} is not absolute")
        if timeout is not None and timeout <= 0:
            raise InvalidRequest(f"hooks.{kind}: the timeout {timeout} is not greater than zero")
        jobs.append(
            {
                "path": os.fsencode(path),
                "args": [os.fsencode(word) for word in hook.get("args") or [path]],
                "env": [os.fsencode(entry) for entry in hook.get("env") or ()],
                "timeout": timeout or 0,
            }
        )
    return jobs


def _offsets(clocks: Mapping[str, Mapping[str, int]]) -> bytes:
    lines = []
    for clock, offset in clocks.items():
        if clock not in _CLOCKS:
            raise InvalidRequest(f"linux.timeOffsets: unknown clock {clock!r}")
        seconds, nanoseconds = offset.get("secs", 0), offset.get("nanosecs", 0)
        if not 0 <= nanoseconds < _NANOSECONDS:
            raise InvalidRequest(f"linux.timeOffsets.{clock}.nanosecs: {nanoseconds}")
        lines.append(f"{clock} {seconds} {nanoseconds}\n")
    return "".join(lines).encode()


def scheduling_job(
    process: Mapping[str, Any], linux: Mapping[str, Any], *, affinity: bool = False
) -> SchedulingJob | None:
    """Turn what is said of a process's scheduling into a message; None where nothing is.

    :param affinity: the process is added to a container, to which execCPUAffinity applies.
    :raises InvalidRequest: a value is none that the specification knows.
    """
    scheduler = process.get("scheduler")
    io_priority = process.get("ioPriority")
    personality = linux.get("personality")
    final = (process.get("execCPUAffinity") or {}).get("final") if affinity else None
    if not (scheduler or io_priority or personality or final):
        return None
    return {
        "scheduler": _scheduler(scheduler) if scheduler else None,
        "io_priority": _io_priority(io_priority) if io_priority else None,
        "personality": _personality(personality) if personality else None,
        "affinity": cpu_list(final) if final else None,
    }


def _scheduler(wanted: Mapping[str, Any]) -> tuple[int, int, int, int, int, int, int]:
    policy = _number(POLICIES, wanted.get("policy"), "process.scheduler.policy")
    nice = wanted.get("nice", 0)
    if not -_MOST_NICE - 1 <= nice <= _MOST_NICE:
        raise InvalidRequest(f"process.scheduler.nice: {nice} is not between -20 and 19")
    flags = 0
    for name in wanted.get("flags") or ():
        flags |= _number(SCHEDULER_FLAGS, name, "process.scheduler.flags")
    runtime, deadline, period = (wanted.get(key, 0) for key in ("runtime", "deadline", "period"))
    return policy, nice, wanted.get("priority", 0), flags, runtime, deadline, period


def _io_priority(wanted: Mapping[str, Any]) -> tuple[int, int]:
    priority = wanted.get("priority", 0)
    if priority not in _IO_PRIORITIES:
        raise InvalidRequest(f"process.ioPriority.priority: {priority} is not between 0 and 7")
    return _number(IO_CLASSES, wanted.get("class"), "process.ioPriority.class"), priority


def _personality(wanted: Mapping[str, Any]) -> int:
    if flags := wanted.get("flags"):
        raise InvalidRequest(f"linux.personality.flags: {', '.join(flags)}: none are defined")
    return _number(PERSONALITIES, wanted.get("domain"), "linux.personality.domain")


def _number(table: Mapping[str, int], name: Any, what: str) -> int:
    if name not in table:
        raise InvalidRequest(f"{what}: {name!r} is none of {', '.join(table)}")
    return table[name]


def profile_of(process: oci.Process) -> str:
    """Return the AppArmor profile to confine a process by; empty where there is nothing to do."""
    return process.get("apparmorProfile", "") if is_enabled() else ""


def cpu_list(text: str) -> list[int]:
    """Return the CPUs of a list such as ``0-3,7``.

    :raises InvalidRequest: it is malformed.
    """
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), min(int(last or first), _MOST_CPUS) + 1))
    except ValueError as error:
        raise InvalidRequest(f"process.execCPUAffinity: {text!r} is no list of CPUs") from error
    if not found or min(found) < 0:
        raise InvalidRequest(f"process.execCPUAffinity: {text!r} is no list of CPUs")
    return sorted(found)
