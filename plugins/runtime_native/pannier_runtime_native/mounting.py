"""From the mounts of an OCI specification to the instructions of the first process."""

from __future__ import annotations

import logging
import os
import posixpath
from typing import TYPE_CHECKING

from pannier.drivers.operations import Step
from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier.linux import mounts
from pannier.runtimes.descriptors import open_bind
from pannier.runtimes.groups import shown_groups
from pannier.runtimes.options import MountOptions, is_bind, parse_options

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pannier.drivers import oci
    from pannier.drivers.runtime import CreateRequest
    from pannier.linux.userns import Ranges
    from pannier.runtimes.descriptors import DescriptorList
    from pannier_runtime_native.messages import Instruction

__all__ = ["MountPlanner"]

_log = logging.getLogger(__name__)

_HARDENED = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC
_FRESH = {"tmpfs", "ramfs"}
_KINDS = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "ramfs"}


class MountPlanner:
    """Collects instructions with their descriptions.

    :param own_network: the network namespace is made with the container, so its user namespace may
        mount a sysfs.
    :param lenient: a bind's settings of a filesystem are left out, with a warning.
    """

    def __init__(
        self,
        request: CreateRequest,
        descriptors: DescriptorList,
        *,
        own_network: bool,
        lenient: bool = False,
    ) -> None:
        self._request = request
        self._descriptors = descriptors
        self._own_network = own_network
        self._lenient = lenient
        self.planned: list[tuple[Step, Instruction]] = []

    def add(self, step: Step, *instruction: object) -> None:
        """Add an instruction."""
        self.planned.append((step, instruction))

    def add_mounts(self, entries: Iterable[oci.Mount]) -> None:
        """Add the mounts of a specification, in its order.

        :raises InvalidRequest: one is malformed.
        :raises UnsupportedOperation: a filesystem or an option is not offered.
        """
        for entry in entries:
            destination = entry["destination"]
            if not destination.startswith("/"):
                destination = "/" + destination  # the specification's older form
            if "\0" in destination or posixpath.normpath(destination) == "/":
                raise InvalidRequest(f"cannot mount on {destination!r}")
            options = parse_options(entry.get("options", ()), destination)
            kind = entry.get("type", "none")
            maps = self._maps(entry, destination, options)
            if options.copy_up and (is_bind(entry) or kind not in _FRESH):
                raise UnsupportedOperation(
                    f"mount {destination}: the option 'tmpcopyup' is offered for a tmpfs only"
                )
            if is_bind(entry):
                self._bind(entry.get("source", ""), destination, options, maps)
            elif kind in ("cgroup", "cgroup2"):
                self._groups(destination, options)
            elif kind == "sysfs" and self._request.idmap is not None and not self._own_network:
                # The kernel lets only the owner of the network namespace mount one.
                self._bind("/sys", destination, _recursive(options))
            elif kind in _KINDS:
                self._filesystem(kind, entry.get("source", kind), destination, options)
            else:
                raise UnsupportedOperation(
                    f"mount {destination}: the filesystem {kind!r} is not offered",
                    hint="mount it on the host, and bind it",
                )

    def _maps(
        self, entry: oci.Mount, destination: str, options: MountOptions
    ) -> tuple[Ranges, Ranges] | None:
        """Return the maps of an idmapped mount; None for another."""
        uids, gids = entry.get("uidMappings"), entry.get("gidMappings")
        if not (uids or gids or options.idmap):
            return None
        if not is_bind(entry):
            raise UnsupportedOperation(
                f"mount {destination}: uidMappings and gidMappings are offered for binds only"
            )
        if uids and gids:
            return _ranges(uids), _ranges(gids)
        idmap = self._request.idmap
        if uids or gids or idmap is None:
            raise InvalidRequest(
                f"mount {destination}: uidMappings and gidMappings are needed, both of them"
            )
        return (
            tuple((item.container, item.host, item.size) for item in idmap.uids),
            tuple((item.container, item.host, item.size) for item in idmap.gids),
        )

    def _bind(
        self,
        source: str,
        destination: str,
        options: MountOptions,
        maps: tuple[Ranges, Ranges] | None = None,
    ) -> None:
        if not source.startswith("/"):
            raise InvalidRequest(f"mount {destination}: the source {source!r} is not absolute")
        self._leave_out(destination, options)
        index = self._descriptors.add(lambda: open_bind(source, options, destination, maps))
        detail = ("rbind " if options.recursive else "bind ") + _describe(options)
        detail += " idmap" * (maps is not None)
        self.add(
            Step("mount", destination, f"{source} {detail}".rstrip()),
            "bind",
            os.fsencode(destination),
            index,
        )

    def _leave_out(self, destination: str, options: MountOptions) -> None:
        """Refuse words that a bind does not take; settings of a filesystem it can do without.

        :raises InvalidRequest: there are such words, or settings and somebody who can mend them.
        """
        names = [key for key, value in options.data if value is None or not self._lenient]
        if names:
            raise InvalidRequest(f"mount {destination}: unknown option {', '.join(names)}")
        for key, _ in options.data:
            # As mount(2) does it: bundles are written by programs that pass them everywhere.
            _log.warning("mount %s: a bind has no use for the option %s", destination, key)

    def _filesystem(self, kind: str, source: str, destination: str, options: MountOptions) -> None:
        attributes = options.set | options.recursive_set
        data = list(options.data)
        words = " ".join(key if value is None else f"{key}={value.decode()}" for key, value in data)
        self.add(
            Step("mount", destination, f"{kind} {_describe(options)} {words}".strip()),
            "filesystem",
            os.fsencode(destination),
            kind,
            os.fsencode(source),
            attributes,
            data,
            options.copy_up,
            options.propagation or 0,
        )

    def _groups(self, destination: str, options: MountOptions) -> None:
        if options.data:
            names = ", ".join(key for key, _ in options.data)
            raise InvalidRequest(f"mount {destination}: unknown option {names}")
        shown = shown_groups(self._request)
        if shown.whole is not None:
            self._group(destination, shown.whole, options)
            return
        tmpfs = MountOptions(
            set=_HARDENED, data=(("mode", b"755"),), propagation=options.propagation
        )
        self._filesystem("tmpfs", "tmpfs", destination, tmpfs)
        for folder, group in shown.groups.items():
            self._group(posixpath.join(destination, folder), group, options)
        for name, folder in shown.links.items():
            path = posixpath.join(destination, name)
            self.add(Step("link", path, folder), "link", os.fsencode(path), os.fsencode(folder))
        if (options.set | options.recursive_set) & mounts.MOUNT_ATTR_RDONLY:
            self.add(
                Step("set read-only", destination),
                "attributes",
                os.fsencode(destination),
                mounts.MOUNT_ATTR_RDONLY,
            )

    def _group(self, destination: str, group: Path, options: MountOptions) -> None:
        # A bind of the container's own group: in its cgroup namespace it is the hierarchy's root.
        attributes = MountOptions(
            set=_HARDENED | options.set | options.recursive_set, propagation=options.propagation
        )
        self._bind(str(group), destination, attributes)


def _ranges(entries: Iterable[oci.IdMapEntry]) -> Ranges:
    return tuple((item["containerID"], item["hostID"], item["size"]) for item in entries)


def _recursive(options: MountOptions) -> MountOptions:
    return MountOptions(
        bind=True,
        recursive=True,
        recursive_set=options.set | options.recursive_set | mounts.MOUNT_ATTR_RDONLY,
    )


def _describe(options: MountOptions) -> str:
    names = {
        mounts.MOUNT_ATTR_RDONLY: "ro",
        mounts.MOUNT_ATTR_NOSUID: "nosuid",
        mounts.MOUNT_ATTR_NODEV: "nodev",
        mounts.MOUNT_ATTR_NOEXEC: "noexec",
    }
    words = [name for bit, name in names.items() if options.set & bit]
    words += ["r" + name for bit, name in names.items() if options.recursive_set & bit]
    if options.copy_up:
        words.append("tmpcopyup")
    propagation = {
        mounts.MS_PRIVATE: "private",
        mounts.MS_SLAVE: "slave",
        mounts.MS_SHARED: "shared",
        mounts.MS_UNBINDABLE: "unbindable",
    }
    if options.propagation is not None:
        words.append("r" * options.recursive_propagation + propagation[options.propagation])
    return ",".join(words)
