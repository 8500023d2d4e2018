"""From a request to a job: what the shim and the first process will do, each step described."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.operations import Step, Timing
from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.linux.namespaces import (
    CLONE_FLAGS,
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from pannier.runtimes.descriptors import DescriptorList
from pannier.runtimes.options import is_bind
from pannier.runtimes.processes import process_job, process_steps, stdio_job
from pannier.runtimes.sysctls import sysctl_path
from pannier_runtime_native.composing import profile_of, scheduling_job, solo_job
from pannier_runtime_native.mounting import MountPlanner
from pannier_runtime_native.refusals import PROPAGATION, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pannier.drivers import oci
    from pannier.drivers.base import IdMap, IdMapping
    from pannier.drivers.runtime import CreateRequest
    from pannier_runtime_native.composing import Solo
    from pannier_runtime_native.messages import Job, ProcessJob

__all__ = ["Blueprint", "draw"]

_DEFAULT_DEVICES: tuple[oci.Device, ...] = (
    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
    {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5},
    {"path": "/dev/full", "type": "c", "major": 1, "minor": 7},
    {"path": "/dev/random", "type": "c", "major": 1, "minor": 8},
    {"path": "/dev/urandom", "type": "c", "major": 1, "minor": 9},
    {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0},
)
_DEFAULT_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
)
_DEVICE_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_DEVICE_MODE = 0o666
_MOST_MAJOR, _MOST_MINOR = 0xFFF, 0xFFFFF
_JOINABLE = {"network", "pid", "ipc", "uts", "cgroup", "time"}
_SOLO_JOINABLE = _JOINABLE | {"user"}
_NAMESPACE_FILES = {
    "network": "net",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
    "user": "user",
}


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A job, its descriptors, and its steps in the order of the timings that come back.

    :param steps: None for a step that this container does not need.
    :param final: what happens once it is started, which is not timed.
    """

    job: Job
    descriptors: DescriptorList
    steps: tuple[Step | None, ...]
    final: tuple[Step, ...]

    def describe(self) -> list[Step]:
        """Return every step."""
        return [step for step in self.steps if step is not None] + list(self.final)

    def timings(self, times: list[int]) -> list[Timing]:
        """Pair the steps with the measured times: begins and ends, in turn."""
        return [
            Timing(step, begin, end)
            for step, begin, end in zip(self.steps, times[::2], times[1::2], strict=True)
            if step is not None
        ]


@dataclass(frozen=True, slots=True)
class _Namespaces:
    """The flags of those created and joined; *foreign* are joined ones that are not ours.

    *time* is the path of the time namespace to join, empty for a new one, None for ours.
    """

    created: int
    joins: tuple[tuple[int, int], ...]
    joined: int
    foreign: int
    time: str | None
    step: Step


def draw(request: CreateRequest, folder: Path, solo: Solo | None = None) -> Blueprint:
    """Plan a container; touches nothing.

    :param folder: the container's folder in the driver's state.
    :param solo: the container has no monitor, and this instead.
    :raises InvalidRequest: the specification is malformed.
    :raises UnsupportedOperation: it asks for something that is not offered.
    """
    spec = request.spec
    refuse(spec, solo=solo is not None)
    descriptors = DescriptorList()
    index = descriptors.add_path(folder, os.O_PATH | os.O_DIRECTORY, "the state folder")
    root = descriptors.add(lambda: os.dup(request.root))
    namespaces = _namespaces(request, descriptors, solo=solo is not None)
    process = process_job(
        spec["process"],
        spec["linux"].get("seccomp"),
        check_capabilities=request.idmap is None,
        tied=solo is None,
        scheduling=scheduling_job(dict(spec["process"]), dict(spec["linux"])),
        profile=profile_of(spec["process"]) if solo is not None else "",
    )
    stdio = stdio_job(request.stdio, spec["process"], request.idmap, descriptors)
    groups = {
        path: descriptors.add_path(path, os.O_WRONLY, "the control group's")
        for path in request.procs
    }
    planner = MountPlanner(
        request,
        descriptors,
        own_network=bool(namespaces.created & CLONE_NEWNET),
        lenient=solo is not None,
    )
    placed = _plan_groups(groups, planner)
    devices = _instructions(request, planner, namespaces, process)
    made = request.idmap if namespaces.created & CLONE_NEWUSER else None
    everything = namespaces.created | namespaces.joined
    job: Job = {
        "id": request.id,
        "folder": index,
        "root": root,
        "clone_flags": namespaces.created & ~(CLONE_NEWCGROUP | CLONE_NEWTIME),
        "joins": list(namespaces.joins),
        "exec_flags": everything,
        "own_pids": bool(namespaces.created & CLONE_NEWPID),
        "uid_map": _map(made.uids) if made else b"",
        "gid_map": _map(made.gids) if made else b"",
        "procs": [groups[path] for path in placed],
        "devices": devices,
        "instructions": [instruction for _, instruction in planner.planned],
        "process": process,
        "stdio": stdio,
        "init": request.init,
        "solo": solo_job(solo, spec, descriptors, namespaces.time) if solo is not None else None,
    }
    steps: list[Step | None] = [namespaces.step, _map_step(made), None]
    if placed:
        steps[2] = _join_step(placed)
    steps += [step for step, _ in planner.planned]
    return Blueprint(job, descriptors, tuple(steps), tuple(process_steps(process)))


def _plan_groups(groups: dict[Path, int], planner: MountPlanner) -> list[Path]:
    """Plan how the first process gets into its groups; return the files left to its parent.

    A thread that writes itself into ``tasks`` is in at once. All other ways (``cgroup.procs``, or
    ``tasks`` with a pid) make the kernel wait until no process anywhere forks or ends, some 5 to
    15 ms: that wait is the parent's, while the first process is at its mounts.
    """
    entered = [path for path in groups if path.name == "tasks"]
    if entered:
        planner.add(_join_step(entered), "enter_groups", *(groups[path] for path in entered))
    return [path for path in groups if path.name != "tasks"]


def _join_step(files: Sequence[Path]) -> Step:
    return Step("join control group", " ".join(str(path.parent) for path in files))


def _map(ranges: tuple[IdMapping, ...]) -> bytes:
    return "".join(f"{item.container} {item.host} {item.size}\n" for item in ranges).encode()


def _map_step(idmap: IdMap | None) -> Step | None:
    if idmap is None:
        return None
    words = [f"{item.container}→{item.host} ({item.size})" for item in idmap.uids]
    return Step("write", "uid_map, gid_map", ", ".join(words))


def _namespaces(request: CreateRequest, descriptors: DescriptorList, *, solo: bool) -> _Namespaces:
    wanted = request.spec["linux"].get("namespaces", ())
    visits = any(item["type"] == "user" and item.get("path") for item in wanted)
    created = CLONE_NEWUSER if request.idmap is not None and not visits else 0
    joined = foreign = 0
    joins: list[tuple[int, int]] = []
    time: str | None = None
    words = ["user"] if created else []
    for namespace in wanted:
        kind, path = namespace["type"], namespace.get("path", "")
        flag = _namespace_flag(request, kind, path, solo=solo)
        if (created | joined) & flag & ~CLONE_NEWUSER:
            raise InvalidRequest(f"linux.namespaces names a {kind} namespace twice")
        if kind == "time":
            time = path
        if path:
            if kind != "time":
                index = descriptors.add_path(path, os.O_RDONLY, f"the {kind} namespace")
                joins.append((index, flag))
            joined |= flag
            foreign |= flag if solo and _is_foreign(kind, path) else 0
            words.append(f"{kind} (joined: {path})")
        elif not created & flag:
            created |= flag
            words.append(kind)
    if not created & CLONE_NEWNS:
        raise UnsupportedOperation("the native runtime needs a mount namespace for each container")
    step = Step("create namespaces", ", ".join(words))
    return _Namespaces(created, tuple(joins), joined, foreign, time, step)


def _namespace_flag(request: CreateRequest, kind: str, path: str, *, solo: bool) -> int:
    if kind not in CLONE_FLAGS:
        raise InvalidRequest(f"unknown namespace {kind!r}")
    joinable = _SOLO_JOINABLE if solo else _JOINABLE
    if (kind == "time" and not solo) or (path and kind not in joinable):
        raise UnsupportedOperation(
            f"the native runtime cannot {'join' if path else 'create'} a {kind} namespace"
        )
    if kind == "user" and request.idmap is None:
        raise InvalidRequest("a user namespace was asked for without an id map")
    return CLONE_FLAGS[kind]


def _is_foreign(kind: str, path: str) -> bool:
    """Whether a namespace to join is another than the one that we are in ourselves."""
    try:
        theirs = Path(path).stat()
        ours = Path(f"/proc/self/ns/{_NAMESPACE_FILES[kind]}").stat()
    except OSError:
        return False  # it is opened later, which says what is wrong
    return (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)


def _instructions(
    request: CreateRequest, planner: MountPlanner, namespaces: _Namespaces, process: ProcessJob
) -> list[tuple[bytes, int, int, int, int]]:
    spec, linux = request.spec, request.spec["linux"]
    entries = spec.get("mounts", [])
    planner.add(Step("attach", "/", spec["root"]["path"]), "root")
    planner.add_mounts(entries)
    devices: list[tuple[bytes, int, int, int, int]] = []
    if not any(is_bind(entry) and entry["destination"] == "/dev" for entry in entries):
        devices = _plan_devices(request, planner)
    if request.stdio.terminal:
        planner.add(Step("open terminal", "/dev/console"), "terminal")
    _plan_names(spec, planner, namespaces)
    if process["apparmor"]:
        planner.add(Step("open", "AppArmor attribute"), "confinement")
    for path in linux.get("maskedPaths", ()):
        planner.add(Step("mask", path), "mask", os.fsencode(path))
    for path in linux.get("readonlyPaths", ()):
        planner.add(Step("set read-only", path), "readonly", os.fsencode(path))
    cwd = process["cwd"]
    planner.add(Step("enter", os.fsdecode(cwd), "made if missing"), "directory", cwd)
    hooks = spec.get("hooks", {})
    private_group = bool(namespaces.created & CLONE_NEWCGROUP)
    # Late: the join happens meanwhile, and a namespace begins at the group we are in by then.
    what = "create cgroup namespace" if private_group else "await control group"
    planner.add(Step(what, request.id), "group", private_group)
    if outer := [*hooks.get("prestart", ()), *hooks.get("createRuntime", ())]:
        planner.add(Step("run hooks", _paths(outer), "in the runtime's namespaces"), "outer_hooks")
    if inner := hooks.get("createContainer"):
        planner.add(
            Step("run hooks", _paths(inner), "in the container's namespaces"), "inner_hooks"
        )
    if spec["root"].get("readonly"):
        planner.add(Step("set read-only", "/"), "readonly_root")
    planner.add(Step("pivot root", "/"), "pivot")
    name = linux.get("rootfsPropagation", "")
    if propagation := PROPAGATION[name]:
        # What is mounted in the root has a propagation of its own.
        deep = name.startswith("r")
        planner.add(Step("set propagation", "/", name), "propagation", propagation, deep)
    return devices


def _paths(hooks: Iterable[oci.Hook]) -> str:
    return ", ".join(hook["path"] for hook in hooks)


def _plan_names(spec: oci.Spec, planner: MountPlanner, namespaces: _Namespaces) -> None:
    own = namespaces.created | namespaces.foreign
    if own & CLONE_NEWUTS:
        if hostname := spec.get("hostname"):
            planner.add(Step("set hostname", hostname), "hostname", os.fsencode(hostname))
        if domain := spec.get("domainname"):
            planner.add(Step("set domainname", domain), "domainname", os.fsencode(domain))
    for key, value in spec["linux"].get("sysctl", {}).items():
        path = sysctl_path(key, own)
        planner.add(
            Step("write sysctl", key, value), "sysctl", os.fsencode(path), os.fsencode(value)
        )


def _device_number(path: str, device: oci.Device) -> int:
    if "major" not in device or "minor" not in device:
        raise InvalidRequest(f"device {path}: major and minor are missing")
    major, minor = device["major"], device["minor"]
    if not (0 <= major <= _MOST_MAJOR and 0 <= minor <= _MOST_MINOR):
        raise InvalidRequest(f"device {path}: there is no device {major}:{minor}")
    return os.makedev(major, minor)


def _plan_devices(
    request: CreateRequest, planner: MountPlanner
) -> list[tuple[bytes, int, int, int, int]]:
    wanted = {device["path"]: device for device in _DEFAULT_DEVICES}
    asked = {device["path"]: device for device in request.spec["linux"].get("devices", ())}
    wanted |= asked
    idmap = request.idmap
    nodes: list[tuple[bytes, int, int, int, int]] = []
    planned: list[tuple[Step, tuple[object, ...]]] = []
    for path, device in wanted.items():
        if device["type"] not in _DEVICE_KINDS:
            raise InvalidRequest(f"device {path}: unknown type {device['type']!r}")
        kind = _DEVICE_KINDS[device["type"]]
        number = 0 if stat.S_ISFIFO(kind) else _device_number(path, device)
        mode = device.get("fileMode", _DEVICE_MODE) & 0o7777
        uid, gid = device.get("uid", 0), device.get("gid", 0)
        step = Step("make device", path, f"{device['type']} {os.major(number)}:{os.minor(number)}")
        if path in asked:
            # Ours may replace what an image has in their place; what was asked for may not.
            words = (os.fsencode(path), kind, number)
            planned.append((Step("check device", path), ("device_place", *words)))
        if idmap is None:
            planned.append((step, ("device", os.fsencode(path), kind, number, mode, uid, gid)))
            continue
        planned.append((step, ("device_bind", os.fsencode(path), str(len(nodes)))))
        try:
            owner = idmap.host_uid(uid), idmap.host_gid(gid)
        except ValueError as error:
            raise InvalidRequest(f"device {path}: {error} in the user namespace") from error
        nodes.append((os.fsencode(path), kind | mode, number, *owner))
    if nodes:
        # The shim puts it behind the descriptors that we send.
        planner.add(Step("attach", "device nodes"), "device_nodes", -1)
    planner.planned += planned
    for path, target in _DEFAULT_LINKS:
        planner.add(Step("link", path, target), "link", os.fsencode(path), os.fsencode(target))
    return nodes
