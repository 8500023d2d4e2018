"""The driver for external OCI runtimes: the daemon's side."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.operations import Step
from pannier.drivers.runtime import RuntimeCapability
from pannier.errors import DriverUnavailable
from pannier.linux.mounts import MS_PRIVATE, MS_SLAVE, mount_setattr
from pannier.runtimes.descriptors import DescriptorList, open_bind
from pannier.runtimes.monitored import Blueprint, MonitoredRuntime
from pannier.runtimes.options import MountOptions

from pannier_runtime_oci import groups
from pannier_runtime_oci.bundle import draw, process_of
from pannier_runtime_oci.mechanism import OciMechanism

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers import oci
    from pannier.drivers.base import DriverContext
    from pannier.drivers.runtime import CreateRequest, StdioSpec

    from pannier_runtime_oci.bundle import Bind
    from pannier_runtime_oci.jobs import BindJob, ContainerJob, GroupsJob

__all__ = ["OciConfig", "OciRuntime"]

_PATIENCE = 60.0


@dataclass(frozen=True)
class OciConfig:
    """The table ``[runtime.runc]``. *path* is the runtime's program, found through PATH."""

    path: str = "runc"


class OciRuntime(MonitoredRuntime):
    """Has an external OCI runtime make containers, each under a monitor of ours."""

    id: ClassVar[str] = "runc"
    mechanism: ClassVar[type[OciMechanism]] = OciMechanism
    capabilities: ClassVar[AbstractSet[RuntimeCapability]] = frozenset(
        {RuntimeCapability.KEEP_DESCRIPTORS}
    )
    config_type: ClassVar[type[OciConfig]] = OciConfig

    @classmethod
    def probe(cls, context: DriverContext, config: OciConfig) -> None:
        """Ask the runtime for its version and for the containers of an empty folder.

        :raises DriverUnavailable: it is not there, or fails, or there is no cgroup v2.
        """
        hint = "install runc, or name an OCI runtime by path in [runtime.runc]"
        if shutil.which(config.path) is None:
            raise DriverUnavailable(f"there is no program {config.path!r}", hint=hint)
        with tempfile.TemporaryDirectory(dir=context.state, prefix="probe-") as empty:
            for arguments in (["--version"], ["--root", empty, "list", "-q"]):
                if reason := _failure([config.path, *arguments]):
                    raise DriverUnavailable(f"{config.path}: {reason}", hint=hint)
        try:
            with groups.hierarchy():
                pass
        except OSError as error:
            raise DriverUnavailable(
                f"cgroup v2 cannot be mounted: {error}",
                hint="run the engine as root, on a kernel with cgroup v2 (beside v1 is enough)",
            ) from error

    def __init__(self, context: DriverContext, config: OciConfig) -> None:
        super().__init__(context, lambda folder: groups.clear(groups.group_name(folder)))
        self._config = config

    def draw(self, request: CreateRequest, folder: Path) -> Blueprint:
        """Say what the runtime is to be given."""
        bundle = draw(request, folder, groups.group_name(folder))
        descriptors = DescriptorList()
        shown: GroupsJob | None = None
        if bundle.groups is not None:
            shown = {"groups": _binds(bundle.groups, descriptors), "links": bundle.links}
        job: ContainerJob = {
            "runtime": shutil.which(self._config.path) or self._config.path,
            "config": json.dumps(bundle.config),
            "root": descriptors.add(partial(_root, request.root, private=bundle.private_root)),
            "group": bundle.group,
            "procs": [
                descriptors.add_path(path, os.O_WRONLY | os.O_APPEND, "the control group's")
                for path in request.procs
            ],
            "binds": _binds(bundle.binds, descriptors),
            "groups": shown,
            "own_cgroups": bundle.own_cgroups,
        }
        step = Step("create container", request.id, f"{self._config.path} create")
        return Blueprint(job, descriptors, [step], own_pids=bundle.own_pids)

    def exec_process(self, process: oci.Process, stdio: StdioSpec) -> str:
        """Return the specification's object, in JSON."""
        return json.dumps(process_of(process, stdio))


def _failure(command: list[str]) -> str:
    """Run a command; return what went wrong, with the last line of what it said, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"{shlex.join(command[1:])} ended with status {done.returncode}: {said or 'no message'}"


def _binds(binds: Iterable[Bind], descriptors: DescriptorList) -> list[BindJob]:
    return [
        {
            "tree": descriptors.add(partial(_open, bind)),
            "place": bind.place,
        }
        for bind in binds
    ]


def _root(root: int, *, private: bool) -> int:
    if private:
        # Else a folder of the host's on a shared mount would show what is mounted there later.
        mount_setattr(root, propagation=MS_PRIVATE, recursive=True)
    return os.dup(root)


def _open(bind: Bind) -> int:
    # Its attributes are the runtime's to set. It makes no slave of what is private by then.
    options = MountOptions(
        recursive=bind.recursive,
        propagation=MS_SLAVE if bind.slave else MS_PRIVATE,
        recursive_propagation=True,
    )
    return open_bind(bind.source, options, bind.destination)
