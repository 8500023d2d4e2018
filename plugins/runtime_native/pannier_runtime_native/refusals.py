"""What a specification may ask for and this driver does not do: refused by the field's name.

Nothing that the OCI runtime specification defines is ignored in silence. What it does not define is
ignored, as it demands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.linux import mounts
from pannier.linux.apparmor import is_enabled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pannier.drivers import oci

__all__ = ["HOOKS", "PROPAGATION", "refuse"]

HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
"""In the order in which they run."""

PROPAGATION = {
    "": 0,
    "private": 0,
    "rprivate": 0,
    "slave": mounts.MS_SLAVE,
    "rslave": mounts.MS_SLAVE,
    "shared": mounts.MS_SHARED,
    "rshared": mounts.MS_SHARED,
    "unbindable": mounts.MS_UNBINDABLE,
    "runbindable": mounts.MS_UNBINDABLE,
}

_NEVER = {
    "process": ("apparmorProfile", "selinuxLabel", "commandLine"),
    "linux": ("mountLabel", "intelRdt", "netDevices", "memoryPolicy"),
}
_SOLO_ONLY = {
    "process": ("scheduler", "ioPriority", "execCPUAffinity"),
    "linux": ("personality", "timeOffsets"),
}
_FOREIGN = ("solaris", "windows", "vm", "zos", "freebsd")
_CONFINES_NOTHING = "unconfined"
_LEAVE_OUT = {
    "process.apparmorProfile": "--security-opt apparmor=unconfined leaves it out, where an engine "
    "asks for one",
    "process.selinuxLabel": "--security-opt label=disable leaves it out, where an engine asks for "
    "one",
}


def refuse(spec: oci.Spec, *, solo: bool) -> None:
    """Refuse what is not offered.

    :param solo: the container has no monitor: then hooks and scheduling are offered.
    :raises UnsupportedOperation: naming the fields.
    :raises InvalidRequest: a field's value is none that the specification knows.
    """
    if fields := sorted(_unsupported(spec, solo=solo)):
        raise UnsupportedOperation(
            f"{', '.join(fields)} {'is' if len(fields) == 1 else 'are'} not offered by the native "
            "runtime",
            hint=_LEAVE_OUT.get(fields[0], "leave it out, or use another runtime"),
        )
    unknown = sorted(name for name in spec.get("hooks", {}) if name not in HOOKS)
    if unknown:
        raise InvalidRequest(f"unknown hooks: {', '.join(unknown)}")
    if solo and not any(item["type"] == "uts" for item in spec["linux"].get("namespaces", ())):
        for name in ("hostname", "domainname"):
            if spec.get(name):
                raise InvalidRequest(f"{name} needs a uts namespace: it would be the host's")
    propagation = spec["linux"].get("rootfsPropagation", "")
    if propagation not in PROPAGATION:
        raise InvalidRequest(f"unknown linux.rootfsPropagation {propagation!r}")


def _unsupported(spec: oci.Spec, *, solo: bool) -> Iterator[str]:
    whole: Mapping[str, Any] = dict(spec)
    yield from (name for name in _FOREIGN if whole.get(name))
    for part in ("process", "linux"):
        names = _NEVER[part] if solo else _NEVER[part] + _SOLO_ONLY[part]
        for name in names:
            value = whole[part].get(name)
            # Empty it asks for a group of its own: config-linux.md, "IntelRdt".
            asked = value is not None if name == "intelRdt" else value
            if name == "apparmorProfile" and ((solo and is_enabled()) or _harmless(value)):
                continue
            if asked:
                yield f"{part}.{name}"
    if whole["process"]["user"].get("username"):
        yield "process.user.username"
    if not solo:
        yield from (f"hooks.{name}" for name, hooks in spec.get("hooks", {}).items() if hooks)
    seccomp: Mapping[str, Any] = dict(spec["linux"].get("seccomp") or {})
    yield from (
        f"linux.seccomp.{name}"
        for name in ("listenerPath", "listenerMetadata")
        if seccomp.get(name)
    )


def _harmless(profile: str | None) -> bool:
    """Whether no profile, or one that changes nothing: then neither has what we start."""
    if not profile:
        return True
    if profile != _CONFINES_NOTHING:
        return False
    try:
        with open("/proc/self/attr/apparmor/current") as file:  # noqa: PTH123 - procfs
            return file.read().startswith(_CONFINES_NOTHING)
    except OSError:
        return True  # the kernel has no AppArmor, or does not use it
