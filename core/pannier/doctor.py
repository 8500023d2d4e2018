"""``pannier doctor``: tries what the engine needs on this host, and says how to mend shortfalls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.config import KINDS
from pannier.errors import ConfigError
from pannier.plugins import Drivers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.config import Config

__all__ = ["Check", "Verdict", "examine"]

_MINIMUM_FREE = 1 << 30
_MINIMUM_FILES = 4096
_PROBE_SECONDS = 20


class Verdict(StrEnum):
    """How a check came out; only ``FAIL`` keeps containers from running."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it came out, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    hint: str = ""


def examine(config: Config) -> Iterator[Check]:
    """Yield each check as it is done; a check that fails does not keep the others from it."""
    yield _privilege()
    yield from _namespaces()
    yield _cgroups()
    yield _seccomp()
    yield _forwarding()
    yield from _limits()
    yield from _space(config)
    yield from _drivers(config)


def _privilege() -> Check:
    if os.geteuid() == 0:
        return Check("privilege", Verdict.OK, "running as root")
    return Check(
        "privilege",
        Verdict.FAIL,
        f"running as uid {os.geteuid()}; the daemon needs root",
        "run it as root: sudo pannier doctor",
    )


def _in_child(statement: str) -> str:
    """Execute Python code in a short-lived child; return what went wrong, or nothing.

    The child keeps what it unshares to itself.
    """
    program = f"import sys\nfrom pannier.linux.namespaces import *\n{statement}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"status {done.returncode}")


def _namespaces() -> Iterator[Check]:
    for name in ("cgroup", "ipc", "mount", "network", "pid", "user", "uts"):
        problem = _in_child(f"unshare(CLONE_FLAGS[{name!r}])")
        if not problem:
            yield Check(f"namespace {name}", Verdict.OK, "can be created")
        elif name == "user":
            yield Check(
                f"namespace {name}",
                Verdict.WARN,
                problem,
                "userns_remap cannot be used; see sysctl user.max_user_namespaces",
            )
        else:
            yield Check(
                f"namespace {name}",
                Verdict.FAIL,
                problem,
                f"see sysctl user.max_{_SYSCTL.get(name, name)}_namespaces and the kernel's "
                "CONFIG_NAMESPACES",
            )


_SYSCTL = {"mount": "mnt", "network": "net"}


def _cgroups() -> Check:
    v1: list[str] = []
    v2: list[str] | None = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind == "cgroup":
            v1.extend(word for word in fields[-1].split(",") if word not in {"rw", "ro"})
        elif kind == "cgroup2":
            controllers = Path(fields[4], "cgroup.controllers")
            v2 = controllers.read_text(encoding="ascii").split() if controllers.exists() else []
    mode = "hybrid" if v1 and v2 is not None else "v1" if v1 else "v2"
    if not v1 and v2 is None:
        return Check(
            "cgroups",
            Verdict.FAIL,
            "no control group hierarchy is mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
    parts = [f"{mode} mode"]
    if v1:
        parts.append(f"v1: {' '.join(sorted(set(v1)))}")
    if v2 is not None:
        parts.append(f"v2: {' '.join(v2) or 'no controllers'}")
    missing = {"memory", "cpu", "pids"} - set(v1) - set(v2 or [])
    if missing:
        return Check(
            "cgroups",
            Verdict.WARN,
            "; ".join([*parts, f"missing: {' '.join(sorted(missing))}"]),
            "limits of the missing controllers are refused; see the kernel's command line "
            "(cgroup_enable=, cgroup_disable=)",
        )
    return Check("cgroups", Verdict.OK, "; ".join(parts))


def _seccomp() -> Check:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    try:
        available = actions.read_text(encoding="ascii").split()
    except OSError:
        return Check(
            "seccomp",
            Verdict.FAIL,
            "the kernel has no seccomp filters",
            "use a kernel with CONFIG_SECCOMP_FILTER, or run with --security-opt "
            "seccomp=unconfined",
        )
    return Check("seccomp", Verdict.OK, f"actions: {' '.join(available)}")


def _forwarding() -> Check:
    try:
        on = Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii").strip() == "1"
    except OSError as error:
        return Check("forwarding", Verdict.WARN, f"cannot be read: {error}", "mount /proc")
    if on:
        return Check("forwarding", Verdict.OK, "net.ipv4.ip_forward is 1")
    return Check(
        "forwarding",
        Verdict.WARN,
        "net.ipv4.ip_forward is 0; the bridge driver switches it on when it is first used",
        "to keep it: echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-pannier.conf",
    )


def _limits() -> Iterator[Check]:
    import resource  # noqa: PLC0415 - only the doctor needs it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _MINIMUM_FILES:
        yield Check(
            "rlimit nofile",
            Verdict.WARN,
            f"{soft} (hard {hard}): few containers fit",
            f"raise it before the daemon starts: ulimit -n {_MINIMUM_FILES * 16}",
        )
    else:
        yield Check("rlimit nofile", Verdict.OK, f"{soft} (hard {hard})")
    raised = 1 << 24  # CAP_SYS_RESOURCE
    effective = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("CapEff:")
    )
    if int(effective, 16) & raised:
        yield Check("rlimits", Verdict.OK, "can be raised")
    else:
        yield Check(
            "rlimits",
            Verdict.WARN,
            "this process lacks CAP_SYS_RESOURCE: --ulimit can lower limits, not raise them",
            "start the daemon with that capability",
        )


def _space(config: Config) -> Iterator[Check]:
    for name, folder in (("root", config.engine.root), ("state", config.engine.state)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        detail = f"{free / (1 << 30):.1f} GiB free at {existing}"
        if name == "root" and free < _MINIMUM_FREE:
            yield Check(
                f"space {name}",
                Verdict.WARN,
                detail,
                "`pannier system prune` frees some, or move [engine] root to another filesystem",
            )
        else:
            yield Check(f"space {name}", Verdict.OK, detail)


def _drivers(config: Config) -> Iterator[Check]:
    try:
        drivers = Drivers(config)
        drivers.check_tables()
        drivers.probe_all()
    except ConfigError as error:
        yield Check("configuration", Verdict.FAIL, str(error), error.hint or "")
        return
    except PermissionError as error:
        yield Check("drivers", Verdict.FAIL, f"cannot be tried: {error}", "run it as root")
        return
    for kind in KINDS:
        usable = [row for row in drivers.records if row.kind == kind and row.usable]
        failed = [row for row in drivers.records if row.kind == kind and not row.usable]
        detail = f"usable: {', '.join(row.id for row in usable) or 'none'}"
        detail += "".join(f"; {row.id}: {row.reason}" for row in failed)
        hints = [row.hint for row in failed if row.hint]
        if not usable or getattr(config.drivers, kind) not in {"auto", *(row.id for row in usable)}:
            yield Check(f"driver {kind}", Verdict.FAIL, detail, "; ".join(hints))
        else:
            yield Check(f"driver {kind}", Verdict.OK, detail)
    for row in drivers.records:
        if not row.kind:
            yield Check(f"plugin {row.id}", Verdict.WARN, row.reason, row.hint)
