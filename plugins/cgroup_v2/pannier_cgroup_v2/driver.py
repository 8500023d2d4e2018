"""The ``v2`` driver: one group for each container in the unified hierarchy."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from pannier.drivers.operations import Action, Operation, Plan, Step
from pannier.drivers.resources import ResourceCapability, ResourceDriver
from pannier.errors import DriverError, DriverUnavailable, InvalidRequest, NotFound
from pannier.linux.cgroupfs import discard_group, make_group, processes, remove_group, subgroups
from pannier_cgroup_v2 import devices, usage
from pannier_cgroup_v2 import processes as control
from pannier_cgroup_v2.group import Group
from pannier_cgroup_v2.hierarchy import Hierarchy
from pannier_cgroup_v2.limits import writes
from pannier_cgroup_v2.oomwatch import EventsWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers.base import DriverContext
    from pannier.drivers.resources import (
        GroupRequest,
        Limits,
        OomWatch,
        ResourceEvents,
        ResourceUsage,
    )

__all__ = ["CgroupV2", "CgroupV2Config"]

_NEEDED: Final = ("cpu", "memory", "pids")
_TIMEOUT = 10.0

_FILES_OF: Final = {
    ResourceCapability.MEMORY: {"memory.max"},
    ResourceCapability.SWAP: {"memory.swap.max"},
    ResourceCapability.CPU: {"cpu.max"},
    ResourceCapability.CPUSET: {"cpuset.cpus"},
    ResourceCapability.PIDS: {"pids.max"},
    ResourceCapability.BLOCK_WEIGHT: {"io.weight", "io.bfq.weight"},
    ResourceCapability.BLOCK_THROTTLE: {"io.max"},
    ResourceCapability.FREEZE: {"cgroup.freeze"},
    ResourceCapability.PRESSURE: {"cpu.pressure"},
}
"""What a group has where there is that capability: any of these files."""


@dataclass(frozen=True)
class CgroupV2Config:
    """The table ``[resources.v2]``.

    :param parent: the group in which containers get theirs. It is made when it is needed, and
        removed when the driver is closed and no container's group is in it.
    """

    parent: str = "pannier"


class CgroupV2(ResourceDriver):
    """Resource control on hosts whose controllers are in the unified hierarchy."""

    id: ClassVar[str] = "v2"
    version: ClassVar[str] = "2"
    priority: ClassVar[int] = 20
    config_type: ClassVar[type[CgroupV2Config]] = CgroupV2Config
    capabilities: ClassVar[AbstractSet[ResourceCapability]] = frozenset(ResourceCapability)

    @classmethod
    def probe(cls, context: DriverContext, config: CgroupV2Config) -> None:  # noqa: ARG003 - needs no folder of its own
        """Look for the controllers, and try to make a group that has them."""
        cls.probe_hierarchy(Hierarchy.discover(), config)

    @classmethod
    def probe_hierarchy(cls, hierarchy: Hierarchy | None, config: CgroupV2Config) -> None:
        """Try to make a group in *hierarchy*, beside the configured parent.

        :raises DriverUnavailable: there is none, a controller is missing, or the host does not
            let us.
        """
        if hierarchy is None:
            raise DriverUnavailable(
                "no cgroup v2 hierarchy is mounted",
                hint="mount -t cgroup2 none /sys/fs/cgroup, or use the driver v1",
            )
        offered = hierarchy.offered()
        if missing := [name for name in _NEEDED if name not in offered]:
            raise DriverUnavailable(
                _incomplete(hierarchy, missing),
                hint="use the driver v1, or boot with systemd.unified_cgroup_hierarchy=1",
            )
        if hierarchy.read_only:
            raise DriverUnavailable(
                f"the hierarchy at {hierarchy.root} is mounted read-only",
                hint="mount it writable: mount -o remount,rw",
            )
        name = f"{config.parent.strip('/').replace('/', '-')}-probe-{os.getpid()}"
        try:
            handed = hierarchy.hand_down("")
            try:
                make_group(hierarchy.root / name)
                remove_group(hierarchy.root / name, 1.0)
            finally:
                hierarchy.take_back("", handed)
        except OSError as error:
            raise DriverUnavailable(
                f"no group can be made in {hierarchy.root}: {error.strerror}",
                hint="run as root, outside of a container or in one that may write there",
            ) from error
        except DriverError as error:
            raise DriverUnavailable(error.message, hint=error.hint) from error

    def __init__(
        self,
        context: DriverContext,  # noqa: ARG002 - the kernel keeps the state
        config: CgroupV2Config,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        found = hierarchy or Hierarchy.discover()
        if found is None:
            raise DriverUnavailable("no cgroup v2 hierarchy is mounted")
        self._hierarchy = found
        self._root = str(found.root)
        self._config = config
        self._known_files: frozenset[str] | None = None

    # What there is.

    def available(self) -> AbstractSet[ResourceCapability]:
        """Return what this host offers, by the files that groups have, and by trying a filter."""
        files = self._files()
        found = {capability for capability, any_of in _FILES_OF.items() if any_of & files}
        if any(file.startswith("hugetlb.") for file in files):
            found.add(ResourceCapability.HUGETLB)
        if devices.available():
            found.add(ResourceCapability.DEVICES)
        return frozenset(found)

    def _files(self) -> frozenset[str]:
        """Return the names of a group's files. Kept: they change with a reboot only."""
        if self._known_files is None:
            parent = self._config.parent.strip("/")
            self._hierarchy.prepare(parent)
            # The parent has what its own parent hands down, as containers' groups have from it.
            self._known_files = frozenset(os.listdir(self._hierarchy.root / parent))  # noqa: PTH208 - names are wanted
        return self._known_files

    def mount_points(self) -> Mapping[str, Path]:
        """Return the one hierarchy."""
        return {"": self._hierarchy.root}

    def _name(self, id: str, parent: str) -> str:
        above = (parent or self._config.parent).strip("/")
        parts = [*above.split("/"), id] if above else [id]
        if "/" in id or any(part in {"", ".", ".."} for part in parts):
            raise InvalidRequest(
                f"{parent or self._config.parent!r} and {id!r} make no path of a group",
                hint="name the parent as a plain path: pannier/web",
            )
        return "/".join(parts)

    def _group(self, id: str, parent: str) -> Group:
        return Group(f"{self._root}/{self._name(id, parent)}", self._files())

    def _existing(self, id: str, parent: str) -> Group:
        group = self._group(id, parent)
        if not group.exists():
            raise NotFound(f"there is no group {group.path}")
        return group

    def path(self, id: str, parent: str = "") -> str:
        """Return the path below the mount point."""
        return f"/{self._name(id, parent)}"

    def procs(self, id: str, parent: str = "") -> tuple[Path, ...]:
        """Return the group's ``cgroup.procs``, or that of the group its processes are in."""
        return (self._group(id, parent).entrance() / "cgroup.procs",)

    def groups(self) -> Iterator[str]:
        """Yield the groups below the parent."""
        parent = self._hierarchy.root / self._config.parent.strip("/")
        yield from sorted(path.rpartition("/")[2] for path in subgroups(parent))

    # Making and limiting.

    def plan_create(self, request: GroupRequest) -> Plan[None]:
        """Make the group, attach the device filter, and write each limit to its file."""
        group = self._group(request.id, request.parent)
        found = writes(request.limits, group)
        for write in found:
            group.check(write)
        operations: list[Operation] = [
            Action(
                Step("create group", group.path),
                partial(self._make, group, request.parent, limited=bool(found)),
                partial(self.delete, request.id, request.parent),
            )
        ]
        if request.devices:
            operations.append(devices.operation(group, request.devices))
        operations += [
            Action(
                Step("write", f"{group.path}/{write.file}", write.value),
                partial(group.write, write),
            )
            for write in found
        ]
        return Plan(self.id, operations, lambda: None)

    def _make(self, group: Group, parent: str, *, limited: bool) -> None:
        above = (parent or self._config.parent).strip("/")
        # It may be there without: by an administrator's mkdir, or by one of ours that was killed.
        if not self._hierarchy.is_prepared(above):
            self._hierarchy.prepare(above, lenient=not limited)
        try:
            make_group(group.path)
        except FileNotFoundError:  # somebody has tidied up in between
            self._hierarchy.prepare(above, lenient=not limited)
            make_group(group.path)
        except OSError as error:
            raise DriverError(f"the group {group.path} cannot be made: {error.strerror}") from error

    def update(self, id: str, limits: Limits, parent: str = "") -> None:
        """Write the limits; on a failure, write back what was there before."""
        group = self._existing(id, parent)
        found = writes(limits, group)
        for write in found:
            group.check(write)
        group.update(found)

    # Processes.

    def pids(self, id: str, parent: str = "") -> list[int]:
        """List the processes."""
        return processes(self._group(id, parent).path)

    def freeze(self, id: str, parent: str = "") -> None:
        """Freeze, and wait for the kernel's event."""
        control.freeze(self._group(id, parent))

    def thaw(self, id: str, parent: str = "") -> None:
        """Thaw."""
        control.thaw(self._group(id, parent))

    def kill(self, id: str, parent: str = "") -> None:
        """Kill all at once, and wait for the kernel's event."""
        control.kill(self._group(id, parent))

    # Measuring.

    def usage(self, id: str, parent: str = "") -> ResourceUsage:
        """Read every controller's counters."""
        return usage.measure(self._existing(id, parent))

    def events(self, id: str, parent: str = "") -> ResourceEvents:
        """Count what happened for want of memory."""
        return usage.events(self._group(id, parent))

    def oom_watch(self, id: str, parent: str = "") -> OomWatch | None:
        """Watch ``memory.events``; not offered where the group has none."""
        group = self._existing(id, parent)
        try:
            return EventsWatch(str(group.path))
        except OSError:
            return None

    # Removing.

    def delete(self, id: str, parent: str = "") -> None:
        """Remove the group; kill what still lives in it.

        :raises DriverError: a process does not end.
        """
        group = self._group(id, parent)
        try:
            remove_group(group.path, 0.0)
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise DriverError(f"{group.path}: {error.strerror}") from error
        else:
            return
        self.kill(id, parent)
        try:
            remove_group(group.path, _TIMEOUT)
        except OSError as error:
            raise DriverError(
                f"the group {group.path} cannot be removed: {error.strerror}",
                hint="a process is in it still, and does not end",
            ) from error

    def close(self) -> None:
        """Remove the configured parent where nothing is in it."""
        if parent := self._config.parent.strip("/"):
            discard_group(self._hierarchy.root / parent)


def _incomplete(hierarchy: Hierarchy, missing: list[str]) -> str:
    offered = ", ".join(sorted(hierarchy.offered())) or "nothing"
    bound = [name for name in missing if name in hierarchy.elsewhere]
    absent = [name for name in missing if name not in hierarchy.elsewhere]
    reasons = []
    if bound:
        reasons.append(f"{', '.join(bound)} are bound to v1")
    if absent:
        reasons.append(f"{', '.join(absent)} are not handed down to it")
    return f"the hierarchy at {hierarchy.root} offers only {offered}: {'; '.join(reasons)}"
