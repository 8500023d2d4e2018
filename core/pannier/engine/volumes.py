"""Volumes: folders that outlive the containers which use them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.engine.filters import label_matches, patterns, refuse_unknown, truth
from pannier.engine.localvolume import bind_device, check_options, is_mounted
from pannier.engine.model import Volume
from pannier.engine.results import Event, PruneResult, VolumeUsage
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, InvalidRequest, NotFound, PannierError
from pannier.linux.mounts import umount
from pannier.linux.trees import measure_tree

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping

    from pannier.drivers.base import IdMap
    from pannier.engine.events import Events
    from pannier.engine.registry import Registry
    from pannier.engine.store import Store
    from pannier.engine.workers import Workers

    Users = Callable[[str], builtins.list[str]]

__all__ = ["ANONYMOUS_LABEL", "VolumeStore", "Volumes", "users_of"]

ANONYMOUS_LABEL = "com.docker.volume.anonymous"

_log = logging.getLogger("pannier.engine")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_REMOVING = ".removing-"
_DATA = "_data"


def users_of(registry: Registry, name: str) -> list[str]:
    """Return the ids of the containers that have the volume."""
    return [
        live.container.id
        for live in registry
        if any(point.name == name for point in live.container.mounts)
    ]


def _check_asked(name: str, driver: str) -> None:
    """Refuse a driver that there is not, and a malformed name."""
    if driver not in ("", "local"):
        raise NotFound(
            f'error looking up volume plugin {driver}: plugin "{driver}" not found',
            hint="the one volume driver is local",
        )
    if name and not _NAME.fullmatch(name):
        raise InvalidRequest(
            f'create {name}: "{name}" includes invalid characters for a local volume name, '
            f'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host '
            f"directory, use absolute path"
        )


class VolumeStore:
    """Makes and removes volumes' folders and rows. Blocking, and safe from any thread.

    :param folder: ``root/volumes``; others may pass through it, but not list it.
    :param idmap: the map whose root owns new volumes; None for the host's root.
    """

    def __init__(self, folder: Path, store: Store, idmap: IdMap | None) -> None:
        self.folder = folder
        self._store = store
        self._idmap = idmap
        self._lock = threading.Lock()
        folder.mkdir(mode=0o701, parents=True, exist_ok=True)
        folder.chmod(0o701)
        self._volumes = {volume.name: volume for volume in store.volumes()}
        self._held: Counter[str] = Counter()
        self._tidy()

    def _tidy(self) -> None:
        """Finish what a killed process left half done. Never removes data that a row speaks of."""
        for entry in os.scandir(self.folder):
            if entry.name.startswith(_REMOVING):
                _, _, name = entry.name.removeprefix(_REMOVING).partition(".")
                if name in self._volumes:
                    Path(entry.path).rename(self.folder / name)
                else:
                    shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name not in self._volumes:
                # Only if empty: a folder with data was not made by a create that was cut short.
                with contextlib.suppress(OSError):
                    (Path(entry.path) / _DATA).rmdir()
                with contextlib.suppress(OSError):
                    Path(entry.path).rmdir()

    def all(self) -> builtins.list[Volume]:
        """Return every volume, by name."""
        return sorted(self._volumes.copy().values(), key=lambda volume: volume.name)

    def get(self, name: str) -> Volume:
        """Return a volume.

        :raises NotFound: there is none of that name.
        """
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(
                f"get {name}: no such volume", hint="`pannier volume ls` lists the volumes"
            ) from None

    def ensure(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        hold: bool = False,
    ) -> tuple[Volume, bool]:
        """Return the volume *name*, and whether it had to be made; without a name a new one.

        :param hold: it is for a container being made, so that nobody can remove it until
            :meth:`release`; one that had to be made is loose until the container is kept.
        :raises InvalidRequest: the name or an option is malformed.
        :raises Conflict: it exists with other options.
        """
        _check_asked(name, driver)
        options = dict(options or {})
        check_options(name, options)
        with self._lock:
            volume = self._volumes.get(name)
            made = volume is None
            if volume is None:
                volume = self._make(name, options, labels or {})
                self._store.put_volume(volume, loose=hold)
                self._volumes[volume.name] = volume
            elif options and dict(volume.options) != options:
                raise Conflict(f"create {name}: the volume exists already, with other options")
            elif not hold:
                self._store.keep_volume(name)
            if hold:  # last: what could not be had is not held either
                self._held[volume.name] += 1
        return volume, made

    def _make(self, name: str, options: dict[str, str], labels: Mapping[str, str]) -> Volume:
        """Make a volume's folder; without a name, of an anonymous one."""
        anonymous = not name
        name = name or secrets.token_hex(32)
        path = bind_device(options) or str(self._make_folder(name))
        extra = {ANONYMOUS_LABEL: ""} if anonymous else {}
        return Volume(
            name=name,
            path=path,
            created=time.time_ns(),
            labels={**extra, **labels},
            options=options,
            anonymous=anonymous,
        )

    def _make_folder(self, name: str) -> Path:
        path = self.folder / name / _DATA
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        (self.folder / name).chmod(0o701)
        path.chmod(0o755)
        if self._idmap is not None:
            os.chown(path, self._idmap.host_uid(0), self._idmap.host_gid(0))
        return path

    def release(self, name: str) -> None:
        """Let go of a volume that :meth:`ensure` held."""
        with self._lock:
            self._held[name] -= 1
            if self._held[name] <= 0:
                del self._held[name]

    def remove(self, name: str, users: Users) -> None:
        """Remove a volume with its data. Idempotent.

        :param users: tells the containers that have a volume; asked under the lock.
        :raises Conflict: a container has it, or is about to.
        """
        with self._lock:
            doomed = self._take(name, users)
        self.clear(doomed)

    def discard(self, name: str, users: Users) -> bool:
        """Remove a volume if it is loose; return whether it was.

        :raises Conflict: as :meth:`remove`.
        """
        with self._lock:
            if not self._store.is_loose(name):
                return False
            doomed = self._take(name, users)
        self.clear(doomed)
        return True

    def settle(self, users: Users) -> builtins.list[Path]:
        """Forget the volumes that a killed process left loose; what is to be cleared is returned.

        Those that a container has are loose no longer.
        """
        doomed = []
        for name in self._store.loose_volumes():
            with self._lock:
                if users(name) or name not in self._volumes:
                    self._store.keep_volume(name)
                else:
                    doomed += self._take(name, users)
        return doomed

    def _take(self, name: str, users: Users) -> builtins.list[Path]:
        """Forget a volume; return its folder, put aside."""
        if name not in self._volumes:
            return []
        containers = users(name)
        if containers or self._held[name]:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(containers)}]",
                hint="remove those containers first",
            )
        # One of the same name may still be on its way out.
        doomed = self.folder / f"{_REMOVING}{secrets.token_hex(4)}.{name}"
        with contextlib.suppress(FileNotFoundError):
            (self.folder / name).rename(doomed)
        self._store.delete_volume(name)
        del self._volumes[name]
        return [doomed]

    @staticmethod
    def clear(doomed: builtins.list[Path]) -> None:
        """Delete the folders of volumes that are forgotten."""
        for folder in doomed:
            data = str(folder / _DATA)
            while is_mounted(data):
                # What is mounted is not the volume's own: it must not be deleted with it.
                umount(data)
            shutil.rmtree(folder, ignore_errors=True)

    def usage(self, volume: Volume) -> int:
        """Return the bytes that a volume's files take up."""
        try:
            descriptor = os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return measure_tree(descriptor)[0]
        finally:
            os.close(descriptor)


class Volumes:
    """Creates, removes and knows the volumes of the ``local`` driver."""

    def __init__(
        self, volumes: VolumeStore, registry: Registry, events: Events, workers: Workers
    ) -> None:
        self._volumes = volumes
        self._registry = registry
        self._events = events
        self._workers = workers

    def list(self, filters: Mapping[str, tuple[str, ...]]) -> builtins.list[Volume]:
        """Return volumes; filters are ``docker volume ls``'s.

        :raises InvalidRequest: a filter is not known.
        """
        refuse_unknown(filters, {"dangling", "driver", "label", "name"})
        used = self._used()
        named = patterns(filters, "name")
        return [
            volume
            for volume in self._volumes.all()
            if named(volume.name) and _passes(volume, filters, used)
        ]

    def get(self, name: str) -> Volume:
        """Return a volume.

        :raises NotFound: there is none of that name.
        """
        return self._volumes.get(name)

    def users(self, name: str) -> builtins.list[str]:
        """Return the ids of the containers that have the volume."""
        return users_of(self._registry, name)

    def _used(self) -> set[str]:
        return {
            point.name for live in self._registry for point in live.container.mounts if point.name
        }

    @uninterrupted
    async def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Create a volume, or return the one that has this name. See :class:`VolumeStore`."""
        volume, made = await self._workers.run(self._volumes.ensure, name, driver, options, labels)
        if made:
            self._publish("create", volume)
        return volume

    @uninterrupted
    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume.

        :param force: one that does not exist is no error.
        :raises NotFound: there is none of that name.
        :raises Conflict: a container has it.
        """
        try:
            volume = self._volumes.get(name)
        except NotFound:
            if force:
                return
            raise
        await self._workers.bulk(self._volumes.remove, name, self.users)
        self._publish("destroy", volume)

    @uninterrupted
    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> PruneResult:
        """Remove the anonymous volumes that no container has; with ``all`` the named ones, too."""
        refuse_unknown(filters, {"all", "label", "label!"})
        everything = any(truth(value, "all") for value in filters.get("all", ()))
        used = self._used()
        deleted, reclaimed = [], 0
        for volume in self._volumes.all():
            if volume.name in used or not (volume.anonymous or everything):
                continue
            if not label_matches(volume.labels, filters):
                continue
            size = max(await self._measured(volume), 0)
            try:
                await self._workers.bulk(self._volumes.remove, volume.name, self.users)
            except Conflict:  # a new container has it
                continue
            self._publish("destroy", volume)
            deleted.append(volume.name)
            reclaimed += size
        self._events.publish(Event("volume", "prune", "", {"reclaimed": str(reclaimed)}))
        return PruneResult(tuple(deleted), reclaimed)

    async def usage(self, name: str) -> VolumeUsage:
        """Measure a volume.

        :raises NotFound: there is none of that name.
        """
        volume = self._volumes.get(name)
        return VolumeUsage(await self._measured(volume), len(self.users(name)))

    async def _measured(self, volume: Volume) -> int:
        """Return a volume's size; -1 where its filesystem does not say."""
        try:
            return await self._workers.bounded(self._volumes.usage, volume)
        except PannierError as error:
            _log.warning("the volume %s could not be measured: %s", volume.name, error)
            return -1

    def _publish(self, action: str, volume: Volume) -> None:
        self._events.publish(Event("volume", action, volume.name, {"driver": volume.driver}))


def _passes(volume: Volume, filters: Mapping[str, tuple[str, ...]], used: set[str]) -> bool:
    drivers = filters.get("driver", ())
    dangling = filters.get("dangling", ())
    return (
        (not drivers or volume.driver in drivers)
        and all(truth(value, "dangling") != (volume.name in used) for value in dangling)
        and label_matches(volume.labels, filters)
    )
