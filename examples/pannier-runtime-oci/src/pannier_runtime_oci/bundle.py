"""From the engine's specification to the one that the external runtime is given.

What such a runtime would pass over in silence is refused here by name: a field that the runtime
specification 1.0 does not have, and what this driver leaves out.
"""

from __future__ import annotations

import copy
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.runtimes.groups import shown_groups

from pannier_runtime_oci.place import CGROUPS, GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pannier.drivers import oci
    from pannier.drivers.runtime import CreateRequest, StdioSpec

__all__ = ["Bind", "Bundle", "draw", "process_of"]

_NAMESPACES = {"mount", "pid", "network", "ipc", "uts", "cgroup", "user", "time"}
_NOT_OFFERED = {"user", "time"}
_SPEC = {
    *("ociVersion", "root", "process", "hostname", "domainname", "mounts", "hooks"),
    *("annotations", "linux"),
}
_LINUX = {
    *("namespaces", "sysctl", "cgroupsPath", "devices", "seccomp", "rootfsPropagation"),
    *("maskedPaths", "readonlyPaths", "mountLabel"),
}
_PROCESS = {
    *("args", "cwd", "user", "env", "terminal", "consoleSize", "capabilities", "rlimits"),
    *("noNewPrivileges", "oomScoreAdj", "apparmorProfile", "selinuxLabel"),
}
_MOUNT = {"destination", "type", "source", "options"}
_SHARED = {"shared", "rshared"}
_SLAVES = {"slave", "rslave"}
_PROPAGATIONS = {"private", "rprivate", *_SLAVES}
_SYSCTLS = {
    "kernel.msg": "ipc",
    "kernel.sem": "ipc",
    "kernel.shm": "ipc",
    "fs.mqueue.": "ipc",
    "net.": "network",
    "kernel.domainname": "uts",
}
_RECURSIVE = {"ro": "rro", "nosuid": "rnosuid", "nodev": "rnodev", "noexec": "rnoexec"}
_DEVICES = [{"allow": True, "access": "rwm"}]
"""The engine's resource driver guards the devices."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Something of the host's to be attached at a *place* below the bundle.

    :param slave: what the host mounts in it later is to be seen there.
    """

    source: str
    place: str
    destination: str
    recursive: bool
    slave: bool = False


@dataclass(slots=True)
class Bundle:
    """What the external runtime is given.

    :param config: its ``config.json``.
    :param group: the control group that it may have as its own.
    :param groups: control groups to attach in the folder that is shown as /sys/fs/cgroup, with
        *links* beside them; None where there is no such folder.
    :param private_root: nothing that the host mounts in the root later is to be seen there.
    :param own_pids: it has a pid namespace of its own; likewise *own_cgroups*.
    """

    config: dict[str, Any]
    group: str
    binds: list[Bind] = field(default_factory=list)
    groups: list[Bind] | None = None
    links: dict[str, str] = field(default_factory=dict)
    private_root: bool = True
    own_pids: bool = False
    own_cgroups: bool = False


def draw(request: CreateRequest, folder: Path, group: str) -> Bundle:
    """Return the bundle of a container; nothing is looked at or made.

    :param folder: where the bundle will be.
    :param group: the control group that the runtime may have as its own.
    :raises InvalidRequest: something is malformed.
    :raises UnsupportedOperation: something is not offered.
    """
    spec = cast("dict[str, Any]", copy.deepcopy(request.spec))
    linux = spec["linux"]
    _check(spec, _SPEC, "")
    _check(linux, _LINUX, "linux.")
    _check_request(request)
    own = _check_namespaces(linux.get("namespaces", ()))
    if domain := spec.pop("domainname", None):
        linux.setdefault("sysctl", {})["kernel.domainname"] = domain
    _check_sysctls(linux.get("sysctl", {}), set(own))
    if (propagation := linux.get("rootfsPropagation", "rprivate")) not in _PROPAGATIONS:
        raise _no_propagation(propagation, "of the root")
    spec["ociVersion"] = "1.0.2"
    spec["root"] = {"path": "rootfs", "readonly": bool(spec["root"].get("readonly"))}
    spec["process"] = process_of(request.spec["process"], request.stdio)
    linux["cgroupsPath"] = f"/{group}"
    linux["resources"] = {"devices": _DEVICES}
    bundle = Bundle(
        spec,
        group,
        private_root=propagation not in _SLAVES,
        own_pids=own.get("pid", False),
        own_cgroups=own.get("cgroup", False),
    )
    if bundle.own_cgroups:
        for namespace in linux["namespaces"]:
            if namespace["type"] == "cgroup":
                namespace["path"] = str(folder / CGROUPS)
    for index, mount in enumerate(spec.get("mounts", ())):
        _check(mount, _MOUNT, "mounts.")
        if mount.get("type") == "cgroup":
            _show_groups(mount, request, bundle)
        _place(mount, f"binds/{index}", bundle, folder)
    if any(bind.slave for bind in bundle.binds):
        # By its word for the root the runtime changes all mounts that it sees, binds' sources too.
        linux["rootfsPropagation"] = "rslave"
    return bundle


def process_of(process: oci.Process, stdio: StdioSpec) -> dict[str, Any]:
    """Return the object of a process whose terminal has its size before it executes.

    :raises UnsupportedOperation: a field is not offered.
    """
    _check(process, _PROCESS, "process.")
    sized: dict[str, Any] = {**process, "terminal": stdio.terminal}
    rows, columns = stdio.size
    if rows or columns:
        sized["consoleSize"] = {"height": rows, "width": columns}
    return sized


# ---- mounts


def _place(mount: dict[str, Any], place: str, bundle: Bundle, folder: Path) -> None:
    """Have a bind's source attached below the bundle: it may be a path in this process alone."""
    options = mount.get("options", ())
    for option in _SHARED.intersection(options):
        raise _no_propagation(option, f"of {mount['destination']}")
    if mount.get("type") == "bind" or {"bind", "rbind"} & set(options):
        if mount["source"] == GROUPS:
            mount["source"] = str(folder / GROUPS)
            return
        recursive, slave = "rbind" in options, not _SLAVES.isdisjoint(options)
        bundle.binds.append(Bind(mount["source"], place, mount["destination"], recursive, slave))
        mount["source"] = str(folder / place)


def _show_groups(mount: dict[str, Any], request: CreateRequest, bundle: Bundle) -> None:
    """Turn a mount of control groups into a bind of the container's own ones.

    The runtime would mount what it sees itself: the v2 hierarchy.
    """
    shown = shown_groups(request)
    options = mount.get("options", ())
    if shown.whole is not None:
        mount |= {"type": "bind", "source": str(shown.whole), "options": ["bind", *options]}
        return
    if not shown.groups:
        return
    deep = [_RECURSIVE[option] for option in options if option in _RECURSIVE]
    mount |= {"type": "bind", "source": GROUPS, "options": ["rbind", *options, *deep]}
    bundle.groups = [
        Bind(str(group), posixpath.join(GROUPS, name), mount["destination"], recursive=False)
        for name, group in shown.groups.items()
    ]
    bundle.links.update(shown.links)


# ---- checks


def _check(given: Iterable[str], known: set[str], where: str) -> None:
    for name in sorted(set(given) - known):
        raise UnsupportedOperation(
            f"this runtime driver does not offer {where}{name}",
            hint="leave it out, or choose another --runtime",
        )


def _check_request(request: CreateRequest) -> None:
    if request.idmap is not None:
        raise UnsupportedOperation(
            "this runtime driver has no user namespaces",
            hint="run the container with --userns=host, or with another --runtime",
        )
    if request.init:
        raise UnsupportedOperation(
            "this runtime driver has no init to run as pid 1",
            hint="leave --init out, or use an image that brings one",
        )


def _check_namespaces(namespaces: Iterable[oci.Namespace]) -> dict[str, bool]:
    """Return the kinds of namespace, and whether each is made rather than joined."""
    own = {}
    for namespace in namespaces:
        kind = namespace["type"]
        if kind not in _NAMESPACES:
            raise InvalidRequest(f"there is no namespace of the type {kind!r}")
        if kind in _NOT_OFFERED:
            raise UnsupportedOperation(
                f"this runtime driver has no {kind} namespaces", hint="choose another --runtime"
            )
        own[kind] = "path" not in namespace
    return own


def _check_sysctls(sysctls: Iterable[str], kinds: set[str]) -> None:
    for name in sysctls:
        owner = next((kind for start, kind in _SYSCTLS.items() if name.startswith(start)), None)
        if owner is None or owner not in kinds:
            raise InvalidRequest(
                f"the sysctl {name} is not the container's own",
                hint="set it on the host, or give the container a namespace that has it",
            )


def _no_propagation(word: str, what: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"this runtime driver does not offer the propagation {word} {what}",
        hint="use rslave: the host's mounts reach the container then",
    )
