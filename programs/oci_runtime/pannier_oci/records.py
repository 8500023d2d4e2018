"""The containers' state: a folder for each below ``--root``, made and forgotten whole.

``state.json``: the record, staged and renamed; beside it what :mod:`.awaiting` has there. Whether a
container is created, running, paused or stopped is asked of the kernel every time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pannier.errors import Conflict, InvalidRequest, NotFound
from pannier.linux.cgroupfs import flat_keyed
from pannier_oci.awaiting import is_awaited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers import oci

__all__ = ["GroupRecord", "Record", "Records"]

_ID = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]{0,254}")
_RECORD = "state.json"


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A container's control group, as the driver *driver* knows it.

    :param procs: the files to write ``0`` to, to enter it.
    """

    driver: str
    id: str
    parent: str
    procs: tuple[str, ...]

    def hands_down(self) -> bool:
        """Whether what runs in it hands controllers on (v2): no process may enter it then."""
        for file in self.procs:
            with contextlib.suppress(OSError):
                if (Path(file).parent / "cgroup.subtree_control").read_text().strip():
                    return True
        return False

    def frozen(self) -> bool:
        """Ask the kernel whether the group is frozen."""
        for file in self.procs:
            group = Path(file).parent
            with contextlib.suppress(OSError):
                if (group / "freezer.state").read_text().strip() in {"FROZEN", "FREEZING"}:
                    return True
            with contextlib.suppress(OSError):
                if flat_keyed((group / "cgroup.events").read_text()).get("frozen"):
                    return True
        return False


@dataclass(frozen=True, slots=True)
class Record:
    """A container.

    :param pid: its first process's; 0 before there is one. *born* is the time of that one's start
        in clock ticks after boot, lest another with the same pid be taken for it.
    :param created: when, in RFC 3339.
    :param spec: its configuration, as it was when it was created.
    :param namespaces: the flags of those that a process added later has to enter.
    :param complete: ``create`` has done all that it does.
    :param startable: the configuration has a process.
    :param own_pids: the first process is pid 1 of a namespace, with which all others end.
    """

    id: str
    bundle: str
    rootfs: str
    created: str
    spec: oci.Spec
    group: GroupRecord
    pid: int = 0
    born: int = 0
    namespaces: int = 0
    own_pids: bool = True
    complete: bool = False
    new_keyring: bool = True
    startable: bool = True
    folder: Path = field(default=Path(), compare=False)

    def alive(self) -> bool:
        """Whether the first process runs, or waits for its start."""
        return bool(self.pid) and start_time(self.pid) == self.born

    def status(self) -> str:
        """Ask for the state: ``creating``, ``created``, ``running``, ``paused`` or ``stopped``."""
        if not self.pid:
            return "creating"
        if not self.alive():
            return "stopped"
        if not self.complete:
            return "creating"
        if self.group.frozen():
            return "paused"
        return "created" if is_awaited(self.folder) else "running"

    def state(self, status: str | None = None) -> dict[str, object]:
        """Return the state as the specification has it.

        :param status: in place of what the kernel says.
        """
        known = status or self.status()
        return {
            "ociVersion": self.spec["ociVersion"],
            "id": self.id,
            "status": known,
            "pid": 0 if known == "stopped" else self.pid,
            "bundle": self.bundle,
            "annotations": self.spec.get("annotations") or {},
        }


def start_time(pid: int) -> int:
    """Return the time of a process's start in clock ticks; -1 where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - procfs
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if fields[0] in {b"Z", b"X"} else int(fields[19])


class Records:
    """Finds, writes and forgets records below a root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, id: str) -> Path:
        """Return a container's folder, which need not exist.

        :raises InvalidRequest: the id cannot be one.
        """
        if not _ID.fullmatch(id):
            raise InvalidRequest(f"invalid container ID format: {id!r}")
        return self._root / id

    def create(self, id: str) -> Path:
        """Make a container's folder.

        :raises Conflict: there is one.
        """
        folder = self.folder(id)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(f"container with id exists: {id}") from error
        return folder

    def write(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        plain = dataclasses.asdict(record)
        del plain["folder"]
        staged = record.folder / f"{_RECORD}.new"
        with staged.open("w") as file:
            json.dump(plain, file)
            file.flush()
            os.fsync(file.fileno())
        staged.rename(record.folder / _RECORD)

    def read(self, id: str) -> Record:
        """Return a container's record.

        :raises NotFound: there is no such container.
        """
        folder = self.folder(id)
        try:
            plain: dict[str, Any] = json.loads((folder / _RECORD).read_text())
        except FileNotFoundError as error:
            raise NotFound(f"container {id!r} does not exist") from error
        group = plain.pop("group")
        group["procs"] = tuple(group["procs"])
        return Record(**plain, group=GroupRecord(**group), folder=folder)

    def all(self) -> Iterator[Record]:
        """Yield every container's record, by id."""
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self._root.iterdir()):
                with contextlib.suppress(NotFound, InvalidRequest):
                    yield self.read(folder.name)

    def remove(self, id: str) -> None:
        """Forget a container. Idempotent."""
        shutil.rmtree(self.folder(id), ignore_errors=True)
