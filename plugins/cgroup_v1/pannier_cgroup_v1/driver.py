"""The ``v1`` driver: one group for each container, at the same path in every hierarchy."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pannier.drivers.operations import Action, Operation, Plan, Step
from pannier.drivers.resources import (
    ResourceCapability,
    ResourceDriver,
    ResourceEvents,
    ResourceUsage,
)
from pannier.errors import DriverError, DriverUnavailable, InvalidRequest, NotFound
from pannier.linux.cgroupfs import discard_group, make_group, remove_group, subgroups
from pannier_cgroup_v1.controllers import (
    blkio,
    cpu,
    cpuacct,
    cpuset,
    devices,
    freezer,
    hugetlb,
    memory,
    pids,
)
from pannier_cgroup_v1.group import Group, Write
from pannier_cgroup_v1.hierarchies import Hierarchies
from pannier_cgroup_v1.killing import kill_group
from pannier_cgroup_v1.oomwatch import EventWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from pannier.drivers.base import DriverContext
    from pannier.drivers.resources import GroupRequest, Limits, OomWatch

__all__ = ["CgroupV1", "CgroupV1Config"]

_NEEDED: Final = ("memory", "cpu", "pids")
_TIMEOUT = 10.0

_FILES_OF: Final = {
    ResourceCapability.MEMORY: {memory.LIMIT},
    ResourceCapability.SWAP: {memory.SWAP_LIMIT},
    ResourceCapability.CPU: {cpu.QUOTA},
    ResourceCapability.CPUSET: {"cpuset.cpus"},
    ResourceCapability.PIDS: {"pids.max"},
    ResourceCapability.BLOCK_WEIGHT: set(blkio.WEIGHTS),
    ResourceCapability.BLOCK_THROTTLE: {"blkio.throttle.read_bps_device"},
    ResourceCapability.DEVICES: {"devices.allow"},
    ResourceCapability.FREEZE: {"freezer.state"},
}
"""What a controller of that capability has: any of these files."""


@dataclass(frozen=True)
class CgroupV1Config:
    """The table ``[resources.v1]``.

    :param parent: the group in every hierarchy in which containers get theirs. It is made when it
        is needed, and removed when the driver is closed and no container's group is in it.
    """

    parent: str = "pannier"


class CgroupV1(ResourceDriver):
    """Resource control on hosts whose controllers are bound to cgroup v1, hybrid ones included.

    The v2 hierarchy that a hybrid host mounts beside them is left alone: no controller of ours is
    bound there, and entering it takes a lock that costs each start some milliseconds.
    """

    id: ClassVar[str] = "v1"
    version: ClassVar[str] = "1"
    priority: ClassVar[int] = 10
    config_type: ClassVar[type[CgroupV1Config]] = CgroupV1Config
    capabilities: ClassVar[AbstractSet[ResourceCapability]] = frozenset(ResourceCapability) - {
        ResourceCapability.PRESSURE
    }

    @classmethod
    def probe(cls, context: DriverContext, config: CgroupV1Config) -> None:  # noqa: ARG003 - needs no folder of its own
        """Try to make a group in each hierarchy."""
        cls.probe_hierarchies(Hierarchies.discover(), config)

    @classmethod
    def probe_hierarchies(cls, hierarchies: Hierarchies, config: CgroupV1Config) -> None:
        """Try to make a group in each of *hierarchies*, beside the configured parent.

        :raises DriverUnavailable: a controller is missing, or the host does not let us.
        """
        missing = [name for name in _NEEDED if name not in hierarchies.by_controller]
        if missing:
            raise DriverUnavailable(
                f"no cgroup v1 hierarchy has {', '.join(missing)}",
                hint="on a host with cgroup v2 alone, use the driver v2",
            )
        for name in hierarchies.read_only:
            raise DriverUnavailable(
                f"the hierarchy {name} at {hierarchies.mounts[name]} is mounted read-only",
                hint="mount it writable: mount -o remount,rw",
            )
        name = f"{config.parent.strip('/').replace('/', '-')}-probe-{os.getpid()}"
        for mount in hierarchies.points:
            try:
                make_group(f"{mount}/{name}")
                remove_group(f"{mount}/{name}", 1.0)
            except OSError as error:
                raise DriverUnavailable(
                    f"no group can be made in {mount}: {error.strerror}",
                    hint="run as root, outside of a container or in one that may write there",
                ) from error

    def __init__(
        self,
        context: DriverContext,  # noqa: ARG002 - the kernel keeps the state
        config: CgroupV1Config,
        hierarchies: Hierarchies | None = None,
    ) -> None:
        self._hierarchies = hierarchies or Hierarchies.discover()
        self._config = config
        self._inheriting: set[str] = set()
        self._known_files: frozenset[str] | None = None

    # What there is.

    def available(self) -> AbstractSet[ResourceCapability]:
        """Return what this host's controllers offer, by the files that they have."""
        files = self._files()
        found = {capability for capability, any_of in _FILES_OF.items() if any_of & files}
        if any(file.startswith("hugetlb.") for file in files):
            found.add(ResourceCapability.HUGETLB)
        return frozenset(found)

    def _files(self) -> frozenset[str]:
        """Return the names of all controllers' files. Kept: they change with a reboot only."""
        if self._known_files is None:
            # A root group lacks some of them: look into one below.
            parent = self._config.parent.strip("/")
            self._make_parents(parent)
            names: set[str] = set()
            for mount in self._hierarchies.points:
                names.update(os.listdir(f"{mount}/{parent}"))  # noqa: PTH208 - names are wanted
            self._known_files = frozenset(names)
        return self._known_files

    def mount_points(self) -> Mapping[str, Path]:
        """Return the v1 hierarchies, by their controllers."""
        return dict(self._hierarchies.mounts)

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
        return Group(self._hierarchies, self._name(id, parent), self._files())

    def path(self, id: str, parent: str = "") -> str:
        """Return the path below every mount point."""
        return f"/{self._name(id, parent)}"

    def procs(self, id: str, parent: str = "") -> tuple[Path, ...]:
        """Return the group's ``tasks`` in every hierarchy, which takes in a thread alone.

        A process that has only one is in the group thereby. Moving it through ``cgroup.procs``
        would make the kernel wait until no process anywhere forks or ends, some 5 to 10 ms.
        """
        name = self._name(id, parent)
        return tuple(path / name / "tasks" for path in self._hierarchies.mounts.values())

    def groups(self) -> Iterator[str]:
        """Yield the groups below the parent, in whichever hierarchy they are."""
        parent = self._config.parent.strip("/")
        found: set[str] = set()
        for mount in self._hierarchies.points:
            found.update(path.rpartition("/")[2] for path in subgroups(f"{mount}/{parent}"))
        yield from sorted(found)

    # Making and limiting.

    def plan_create(self, request: GroupRequest) -> Plan[None]:
        """Make the group in every hierarchy, then write each limit to its file."""
        group = self._group(request.id, request.parent)
        found = [*self._writes(request.limits, group), *devices.writes(request.devices)]
        for write in found:
            group.check(write)
        cpusets = group.path("cpuset")
        revert = partial(self.delete, request.id, request.parent)
        operations: list[Operation] = []
        for path in group.paths():
            step = Step(
                "create group", path, "CPUs and memory nodes of the parent" * (path == cpusets)
            )
            # The first of them is undone last, and takes all away.
            do = partial(self._make, path, path == cpusets)
            operations.append(Action(step, do, None if operations else revert))
        for write in found:
            step = Step("write", f"{group.path(write.controller)}/{write.file}", write.value)
            operations.append(Action(step, partial(group.write, write)))
        return Plan(self.id, operations, lambda: None)

    def _writes(self, limits: Limits, group: Group) -> list[Write]:
        return [
            *memory.writes(limits, group),
            *cpu.writes(limits, group),
            *cpuset.writes(limits),
            *pids.writes(limits),
            *blkio.writes(limits, group),
            *hugetlb.writes(limits),
        ]

    def _make(self, path: str, is_cpuset: bool) -> None:  # noqa: FBT001 - private
        try:
            make_group(path)
        except FileNotFoundError:
            mount = next(
                mount for mount in self._hierarchies.points if path.startswith(f"{mount}/")
            )
            self._make_parents(str(Path(path).parent.relative_to(mount)))
            make_group(path)
        except OSError as error:
            raise DriverError(f"the group {path} cannot be made: {error.strerror}") from error
        if is_cpuset and str(Path(path).parent) not in self._inheriting:
            try:
                cpuset.fill(path)
            except OSError as error:
                raise DriverError(
                    f"the group {path} cannot have its parent's CPUs and memory nodes: "
                    f"{error.strerror}"
                ) from error

    def _make_parents(self, name: str) -> None:
        """Make a parent group, and those above it, in every hierarchy. Idempotent."""
        cpusets = self._hierarchies.by_controller.get("cpuset")
        parts = name.split("/") if name else []
        for mount in self._hierarchies.points:
            path = mount
            for part in parts:
                path += f"/{part}"
                try:
                    new = make_group(path)
                    if mount == cpusets:
                        cpuset.fill(path)
                        if new or name == self._config.parent.strip("/"):
                            # Containers' groups then cost no reading and writing for this.
                            cpuset.inherit(path)
                            self._inheriting.add(path)
                except OSError as error:
                    raise DriverError(
                        f"the group {path} cannot be made: {error.strerror}"
                    ) from error

    def update(self, id: str, limits: Limits, parent: str = "") -> None:
        """Write the limits; on a failure, write back what was there before, last first."""
        group = self._existing(id, parent)
        found = self._writes(limits, group)
        for write in found:
            group.check(write)
        done: list[Write] = []
        try:
            for write in found:
                before = group.previous(write)
                group.write(write)
                done.append(before)
        except Exception:
            for before in reversed(done):
                group.write(before)
            raise

    def _existing(self, id: str, parent: str) -> Group:
        group = self._group(id, parent)
        if group.read("memory", "cgroup.procs") is None:
            raise NotFound(f"there is no group {group.name}")
        return group

    # Processes.

    def pids(self, id: str, parent: str = "") -> list[int]:
        """List the processes in every hierarchy's group: one may have entered some of them only."""
        return self._group(id, parent).pids()

    def freeze(self, id: str, parent: str = "") -> None:
        """Freeze with the v1 freezer."""
        freezer.freeze(self._group(id, parent))

    def thaw(self, id: str, parent: str = "") -> None:
        """Thaw with the v1 freezer."""
        freezer.thaw(self._group(id, parent))

    def kill(self, id: str, parent: str = "") -> None:
        """Freeze the group, signal every process, thaw it, until none is left.

        :raises DriverError: a process did not end in ten seconds.
        """
        kill_group(self._group(id, parent))

    # Measuring.

    def usage(self, id: str, parent: str = "") -> ResourceUsage:
        """Read every controller's counters."""
        group = self._existing(id, parent)
        return ResourceUsage(
            **memory.measure(group),
            **cpu.measure(group),
            **cpuacct.measure(group),
            **pids.measure(group),
            **blkio.measure(group),
        )

    def events(self, id: str, parent: str = "") -> ResourceEvents:
        """Count what was killed for want of memory; v1 counts nothing else of the kind."""
        kills = memory.oom_kills(self._group(id, parent))
        return ResourceEvents(oom=kills, oom_kill=kills)

    def oom_watch(self, id: str, parent: str = "") -> OomWatch | None:
        """Watch by an eventfd; not offered where the kernel has no events of cgroup v1."""
        folder = self._existing(id, parent).path("memory")
        try:
            return EventWatch(folder) if folder is not None else None
        except OSError:
            return None

    # Removing.

    def delete(self, id: str, parent: str = "") -> None:
        """Remove the group from every hierarchy; kill what still lives.

        :raises DriverError: a process does not end.
        """
        group = self._group(id, parent)
        try:
            for path in reversed(group.paths()):
                remove_group(path, 0.0)
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise DriverError(f"{error.filename}: {error.strerror}") from error
        else:
            return
        self.kill(id, parent)
        for path in reversed(group.paths()):
            try:
                remove_group(path, _TIMEOUT)
            except OSError as error:
                raise DriverError(
                    f"the group {path} cannot be removed: {error.strerror}",
                    hint="a process is in it still, and does not end",
                ) from error

    def close(self) -> None:
        """Remove the configured parent from those hierarchies in which nothing is in it."""
        if parent := self._config.parent.strip("/"):
            for mount in self._hierarchies.points:
                discard_group(f"{mount}/{parent}")
