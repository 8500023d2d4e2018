"""Control groups, through the resource drivers that are installed."""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pannier.config import Config
from pannier.drivers.resources import GroupRequest, Limits, ResourceDriver
from pannier.errors import Conflict, DriverUnavailable
from pannier.plugins import Drivers, load_plugins
from pannier_oci.limits import device_rules, limits_of
from pannier_oci.records import GroupRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pannier.drivers import oci
    from pannier.drivers.operations import Transaction

__all__ = ["Groups", "open_groups"]


_PARENT = "pannier-runtime"


class Groups:
    """A resource driver, and what a container wants of it."""

    def __init__(self, driver: ResourceDriver) -> None:
        self._driver = driver

    def find(self, id: str, spec: oci.Spec) -> GroupRecord:
        """Return the group that a container is to have, at ``linux.cgroupsPath`` where given.

        A relative path is below the driver's own parent, as is the group of a container that says
        nothing.
        """
        wanted = spec["linux"].get("cgroupsPath", "")
        parent, name = posixpath.split(posixpath.normpath(wanted)) if wanted else ("", id)
        if wanted and not wanted.startswith("/"):
            default = posixpath.dirname(self._driver.path(name))
            parent = posixpath.join(default, parent)
        procs = tuple(str(path) for path in self._driver.procs(name, parent))
        return GroupRecord(self._driver.id, name, parent, procs)

    def create(self, group: GroupRecord, spec: oci.Spec, transaction: Transaction) -> GroupRecord:
        """Make the group with the limits; the transaction can undo it.

        :raises Conflict: there are processes in it already.
        :raises UnsupportedOperation: a limit that is not offered, or that this host has not.
        """
        if self._driver.pids(group.id, group.parent):
            path = self._driver.path(group.id, group.parent)
            raise Conflict(f"the control group {path} is in use already")
        linux = cast("Mapping[str, Any]", spec["linux"])
        limits = limits_of(linux.get("resources") or {})
        request = GroupRequest(group.id, group.parent, limits, device_rules(linux))
        transaction.run(self._driver.plan_create(request))
        # Where to enter it is known for sure once there is one.
        return replace(group, procs=self.procs(group))

    def mount_points(self) -> Mapping[str, Path]:
        """Return where the hierarchies are."""
        return self._driver.mount_points()

    def update(self, group: GroupRecord, limits: Limits) -> None:
        """Change the limits."""
        self._driver.update(group.id, limits, group.parent)

    def pids(self, group: GroupRecord) -> list[int]:
        """List the processes."""
        return self._driver.pids(group.id, group.parent)

    def procs(self, group: GroupRecord) -> tuple[str, ...]:
        """Return the files by which a process may enter now: not always those of the beginning."""
        return tuple(str(path) for path in self._driver.procs(group.id, group.parent))

    def freeze(self, group: GroupRecord) -> None:
        """Stop every process."""
        self._driver.freeze(group.id, group.parent)

    def thaw(self, group: GroupRecord) -> None:
        """Let them go on."""
        self._driver.thaw(group.id, group.parent)

    def kill(self, group: GroupRecord) -> None:
        """Kill every process."""
        self._driver.kill(group.id, group.parent)

    def delete(self, group: GroupRecord) -> None:
        """Remove the group. Idempotent."""
        self._driver.delete(group.id, group.parent)


@contextlib.contextmanager
def open_groups(root: Path, driver: str = "auto") -> Iterator[Groups]:
    """Open a resource driver.

    :param root: where the driver may keep what it needs.
    :param driver: its id; ``auto`` for the best that works here.
    :raises DriverUnavailable: none works here.
    """
    config = Config()
    folder = root / ".drivers"
    config = replace(config, engine=replace(config.engine, root=folder, state=folder))
    config = replace(config, drivers=replace(config.drivers, resources=driver))
    records = [row for row in load_plugins(kind="resources") if row.kind == "resources"]
    drivers = Drivers(config, records)
    record = (
        drivers.choose("resources") if driver == "auto" else drivers.check_installed("resources")
    )
    if record is None or record.driver is None:
        raise DriverUnavailable(f"the resources driver {driver!r} cannot be loaded")
    if any(field.name == "parent" for field in dataclasses.fields(record.driver.config_type)):
        # Not the daemon's: what one of us makes there the other would not know of.
        drivers.config = replace(config, tables={"resources": {record.id: {"parent": _PARENT}}})
    opened = drivers.open(record, ResourceDriver)
    try:
        yield Groups(opened)
    finally:
        opened.close()
