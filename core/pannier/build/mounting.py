"""The mounts of one RUN: what they stand for in the cache, and how they come about."""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.build.cache import make_key
from pannier.build.configuring import working_dir
from pannier.build.instructions import MountType
from pannier.build.runmounts import (
    Prepared,
    mount_folder,
    prepare_bind,
    prepare_cache,
    prepare_secret,
)
from pannier.build.sources import combined_digest
from pannier.engine.model import MountKind, MountSpec
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from pannier.build.building import Build
    from pannier.build.instructions import Run, RunMount
    from pannier.build.sources import Root
    from pannier.build.stages import Stage
    from pannier.build.state import State

__all__ = ["RunMounts"]


class RunMounts:
    """The mounts of one instruction.

    :param expand: replaces variables in targets and sources.
    """

    def __init__(
        self,
        build: Build,
        stage: Stage,
        state: State,
        instruction: Run,
        expand: Callable[[str], str],
    ) -> None:
        self._build = build
        self._stage = stage
        self._state = state
        self._mounts = [replace(mount, source=expand(mount.source)) for mount in instruction.mounts]
        self._expand = expand
        self._roots: dict[str, Root] = {}
        self.digest = ""

    @property
    def targets(self) -> list[str]:
        """Where something is mounted."""
        return [self._target(mount) for mount in self._mounts]

    def _target(self, mount: RunMount) -> str:
        path = posixpath.normpath(working_dir(self._state.config, self._expand(mount.target)))
        if path in ("/", "//"):
            raise InvalidRequest("a mount's target cannot be the root folder")
        return path

    async def open(self, stack: AsyncExitStack) -> None:
        """Open what is mounted from elsewhere, and find out what it is.

        Of the content, only what is bound counts for the cache: neither a cache nor a secret does.
        """
        parts = []
        for mount in self._mounts:
            bound = mount.kind is MountType.BIND
            if bound or mount.origin:
                root = self._roots.get(mount.origin)
                if root is None:
                    root = await self._build.root(self._stage, mount.origin, stack)
                    self._roots[mount.origin] = root
                if bound:
                    path = mount.source or "."
                    items = await self._build.workers.bulk(root.find, path)
                    parts.append(combined_digest(items))
            parts.append(json.dumps([mount.kind, self._target(mount)]))
            parts.append(repr(mount))
        self.digest = make_key(*parts) if parts else ""

    async def prepare(self, stack: AsyncExitStack) -> Prepared:
        """Make everything ready to be mounted; undone when the stack is closed."""
        prepared = Prepared()
        stack.callback(prepared.close)
        for mount in self._mounts:
            await self._prepare(prepared, mount, stack)
        return prepared

    async def _prepare(self, prepared: Prepared, mount: RunMount, stack: AsyncExitStack) -> None:
        build = self._build
        target = self._target(mount)
        if mount.kind is MountType.TMPFS:
            spec = MountSpec(MountKind.TMPFS, target, tmpfs_size=mount.size)
            prepared.specs.append(spec)
        elif mount.kind is MountType.SECRET:
            secrets = build.request.secrets
            folder = build.workspace.secrets
            await build.workers.run(prepare_secret, prepared, mount, target, secrets, folder)
        elif mount.kind is MountType.CACHE:
            base = build.workspace.mounts
            number = await stack.enter_async_context(
                build.caches.use(str(mount_folder(base, mount)), mount.sharing)
            )
            folder = mount_folder(base, mount, number)
            origin = self._roots.get(mount.origin) if mount.origin else None
            await build.workers.bulk(prepare_cache, prepared, mount, target, folder, origin)
        else:
            root = self._roots[mount.origin]
            await build.workers.bulk(
                prepare_bind, prepared, mount, target, root, build.context.scratch
            )
