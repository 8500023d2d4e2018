"""One build: its stages side by side, and what they share."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pannier.build.imported import from_images
from pannier.build.instructions import Label
from pannier.build.lexer import Statement
from pannier.build.model import BuildFailed
from pannier.build.output import Channel, Ordered
from pannier.build.runmounts import Stubs
from pannier.build.running import Running
from pannier.build.scope import Arguments, platform_arguments
from pannier.build.sources import Root
from pannier.build.stages import find_stage, make_plan
from pannier.build.state import State
from pannier.build.stepping import StageBuilder
from pannier.drivers.operations import Transaction
from pannier.errors import InvalidRequest, NotFound, PannierError
from pannier.images.oci import Platform
from pannier.images.reference import parse_reference
from pannier.images.registry.auth import ANONYMOUS
from pannier.images.registry.transfers import TransferEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from pannier.build.cache import Cache
    from pannier.build.context import Context, Workspace
    from pannier.build.instructions import Instruction
    from pannier.build.layering import Commit
    from pannier.build.model import BuildRequest, Event
    from pannier.build.mounting import RunMounts
    from pannier.build.parser import Dockerfile
    from pannier.build.running import Command
    from pannier.build.service import Caches
    from pannier.build.stages import Stage
    from pannier.build.state import Committer
    from pannier.engine.engine import Engine
    from pannier.engine.workers import Workers
    from pannier.images.config import RunConfig
    from pannier.images.images import ImageStore
    from pannier.images.model import Image

__all__ = ["Build"]

_GLOBAL = -1
"""The channel of what comes before the first stage."""


class Build:
    """One build; used on the event loop's thread.

    :param deliver: takes what is to be told, in order.
    """

    def __init__(
        self,
        request: BuildRequest,
        dockerfile: Dockerfile,
        context: Context,
        *,
        engine: Engine,
        store: ImageStore,
        committer: Committer,
        cache: Cache,
        caches: Caches,
        workspace: Workspace,
        workers: Workers,
        deliver: Callable[[Event], None],
    ) -> None:
        self.request = request
        self.dockerfile = dockerfile
        self.context = context
        self.store = store
        self.committer = committer
        self.cache = cache
        self.caches = caches
        self.workspace = workspace
        self.workers = workers
        self._transfers = engine.transfers
        self._running = Running(engine, request)
        self._platform = request.platform or Platform.native()
        platform_args = platform_arguments(self._platform)
        self._given = {
            name: value for name, value in request.build_args.items() if value is not None
        }
        self._plan = make_plan(
            dockerfile,
            build_args=self._given,
            platform_args=platform_args,
            target=request.target,
        )
        self._scope = {**platform_args, **self._plan.values}
        self._used = {name for arg in self._plan.globals for name, _ in arg.pairs}
        self._more: tuple[Instruction, ...] = _labels(request)
        numbers = [stage.number for stage in self._plan.stages]
        self._ordered = Ordered([_GLOBAL, *numbers], deliver)
        self._channels = self._make_channels()
        self._tasks: dict[int, asyncio.Task[State]] = {}
        self._pulls: dict[str, asyncio.Lock] = {}
        self._background: set[asyncio.Task[None]] = set()

    def _make_channels(self) -> dict[int, Channel]:
        plan = self._plan
        count = len(plan.globals)
        firsts = {}
        for stage in plan.stages:
            firsts[stage.number] = count + 1
            count += 1 + len(stage.instructions)
        count += len(self._more)
        channels = {_GLOBAL: Channel(self._ordered, _GLOBAL, 1, count)}
        for number, first in firsts.items():
            channels[number] = Channel(self._ordered, number, first, count)
        return channels

    # The whole.

    async def run(self) -> str:
        """Build; return the id of the image.

        :raises BuildFailed: an instruction failed.
        """
        for arg in self._plan.globals:
            self._channels[_GLOBAL].step(arg.source.original)
        self._channels[_GLOBAL].finish()
        try:
            for stage in self._plan.stages:
                self._start(stage)
            await self._all_done()
            final = self._tasks[self._plan.target.number].result()
        finally:
            await self._end()
        if final.image is None:
            raise BuildFailed("No image was generated. Is your Dockerfile empty?")
        return final.image

    def unused(self) -> list[str]:
        """Return the build arguments that nothing declared."""
        from pannier.build.scope import PROXIES  # noqa: PLC0415 - only here

        return sorted(name for name in self._given if name not in self._used | PROXIES)

    def _start(self, stage: Stage) -> None:
        task = asyncio.get_running_loop().create_task(self._stage(stage))
        self._tasks[stage.number] = task

    async def _all_done(self) -> None:
        while pending := [task for task in self._tasks.values() if not task.done()]:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()

    async def _end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        while self._background:
            await asyncio.wait(tuple(self._background))

    async def _stage(self, stage: Stage) -> State:
        channel = self._channels[stage.number]
        try:
            channel.step(stage.begin.source.original)
            base = await self._base(stage, channel)
            arguments = Arguments(self._given, self._scope, self._used)
            more = self._more if stage is self._plan.target else ()
            state = await StageBuilder(self, stage, channel, arguments).run(base, more)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._ordered.fail(stage.number)
            raise
        channel.finish()
        return state

    async def _result(self, number: int) -> State:
        """Return what a stage came to; it is built if nothing else needed it."""
        if number not in self._tasks:
            stage = self._plan.all[number]
            self._ordered.add(number)
            self._channels[number] = Channel(self._ordered, number, 1, 1 + len(stage.instructions))
            self._start(stage)
        # Shielded: one stage that fails does not cancel another, the build does.
        return await asyncio.shield(self._tasks[number])

    # What stages begin from.

    async def _base(self, stage: Stage, channel: Channel) -> State:
        platform = Platform.parse(stage.platform) if stage.platform else self._platform
        if stage.base is not None:
            return await self._result(stage.base)
        # Whatever bounds the times of files makes other images of the same files.
        epoch = str(self.request.epoch)
        if stage.image == "scratch":
            return State(f"scratch {platform} {epoch}", platform)
        image = await self.image(stage.image, channel, platform=platform)
        return State("", image.config.platform).at(image, f"from {image.id} {epoch}")

    async def image(
        self, name: str, channel: Channel | None = None, *, platform: Platform | None = None
    ) -> Image:
        """Return an image of the store, held until the build ends; pulled where it is missing.

        :raises NotFound: it is neither here nor to be had.
        :raises InvalidRequest: it is for another platform.
        """
        wanted = platform or self._platform
        async with self._pulls.setdefault(name, asyncio.Lock()):
            image = None if self.request.pull else await self._find(name)
            if image is None or not image.config.platform.matches(wanted):
                image = await self._pulled(name, image, wanted, channel)
        found = image.config.platform
        if not found.matches(wanted):
            raise InvalidRequest(
                f"the image {name} is for {found}, and not for {wanted}",
                hint="give --platform, or load an image for this one",
            )
        return image

    async def _find(self, name: str) -> Image | None:
        try:
            return await self.workers.bulk(self.committer.held, name)
        except NotFound:
            return None

    async def _pulled(
        self, name: str, image: Image | None, platform: Platform, channel: Channel | None
    ) -> Image:
        """Pull an image; one that is here will do where nothing was to be had for the platform."""
        reference = parse_reference(name).with_default_tag()
        credentials = self.request.credentials.get(reference.domain, ANONYMOUS)
        try:
            async for event in self._transfers.pull(reference, credentials, platform):
                if channel is not None and isinstance(event, TransferEvent):
                    channel.send(event)
        except NotFound:
            if image is None:
                raise
            return image
        return await self.workers.bulk(self.committer.held, name)

    async def root(self, stage: Stage, origin: str, stack: AsyncExitStack) -> Root:
        """Return what files are copied or mounted from; closed with *stack*.

        :param origin: an earlier stage, an image, or empty for the context.
        """
        if not origin:
            descriptor = os.dup(self.context.descriptor)
            stack.callback(os.close, descriptor)
            return Root(descriptor)
        number = find_stage(self._plan.all[: stage.number], origin)
        if number is not None:
            top = (await self._result(number)).top
        else:
            top = (await self.image(origin)).top_layer
        if top is None:
            folder = self.context.scratch / "empty"
            folder.mkdir(exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            descriptor = await self.workers.run(self.store.storage.open_layer, top)
        stack.callback(os.close, descriptor)
        return Root(descriptor, f"{origin}")

    # The cache.

    async def probe(
        self, state: State, key: str, config: RunConfig, created_by: str
    ) -> State | None:
        """Return the state after a step that was done before; None where it has to be done."""
        if self.request.no_cache:
            return None
        return await self.workers.run(self._probe, state, key, config, created_by)

    def _probe(self, state: State, key: str, config: RunConfig, created_by: str) -> State | None:
        # Who names images to take steps from wants no others: a build then depends on them alone.
        found = None if self.request.cache_from else self.cache.find(key)
        if found is not None:
            try:
                return state.at(self.committer.held(found), key)
            except PannierError:  # was removed, or is damaged
                self.cache.forget([key])
        if not self.request.cache_from:
            return None
        return from_images(
            self.committer,
            self.request.cache_from,
            state,
            config=config,
            created_by=created_by,
            key=key,
        )

    # Commands.

    async def execute(
        self, command: Command, mounts: RunMounts, channel: Channel, commit: Commit
    ) -> State:
        """Run a command, and commit what it changed.

        :raises BuildFailed: its status is not 0.
        """
        running, request = self._running, self.request
        container = await running.create(command)
        channel.say(f" ---> Running in {container[:12]}")
        failed = True
        try:
            stubs = None
            if targets := mounts.targets:
                stubs = await self.workers.run(self._stubs, container, targets)
            await running.run(container, command, channel.write)
            failed = False
            if stubs:
                await self.workers.run(self._remove_stubs, container, stubs)
            layer = await self.workers.bulk(self.committer.layer, container)
            # The container is not needed any more, unless it is to be kept.
            used_up = None if request.keep else container
            after = await self.workers.bulk(commit, layer, container=used_up)
        finally:
            keep = request.keep_failed if failed else request.keep
            # Nobody waits for this, but the end of the build.
            task = asyncio.get_running_loop().create_task(running.end(container, keep=keep))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        if not request.keep:
            channel.say(f"Removing intermediate container {container[:12]}")
        return after

    def _stubs(self, container: str, targets: list[str]) -> Stubs:
        root = Transaction().run(self.store.storage.plan_open_root(container))
        try:
            return Stubs(root, targets)
        finally:
            os.close(root)

    def _remove_stubs(self, container: str, stubs: Stubs) -> None:
        root = Transaction().run(self.store.storage.plan_open_root(container))
        try:
            stubs.remove(root)
        finally:
            os.close(root)


def _labels(request: BuildRequest) -> tuple[Instruction, ...]:
    """Return the instruction that ``--label`` stands for."""
    if not request.labels:
        return ()
    pairs = tuple((_quote(key), _quote(value)) for key, value in sorted(request.labels.items()))
    original = "LABEL " + " ".join(
        f"{key}={value}" for key, value in sorted(request.labels.items())
    )
    return (Label(Statement(0, 0, "LABEL", (), "", original), pairs),)


def _quote(text: str) -> str:
    """Return a word that is the text itself, whatever is in it."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
