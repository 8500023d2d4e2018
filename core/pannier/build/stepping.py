"""One stage of a build: its instructions, one after another."""

from __future__ import annotations

import posixpath
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from pannier.build import layering
from pannier.build.cache import make_key
from pannier.build.configuring import configure, full_command, nop, working_dir
from pannier.build.fetching import fetch, is_url
from pannier.build.ignore import IgnoreRules
from pannier.build.instructions import Copy, Run, Workdir
from pannier.build.model import BuildFailed, Built
from pannier.build.mounting import RunMounts
from pannier.build.parser import parse_trigger
from pannier.build.running import Command
from pannier.build.sources import Item
from pannier.build.words import expand
from pannier.errors import InvalidRequest, PannierError
from pannier.images.digest import digest_of, short_id
from pannier.images.jsonutil import dump

if TYPE_CHECKING:
    from pannier.build.building import Build
    from pannier.build.instructions import Instruction
    from pannier.build.output import Channel
    from pannier.build.scope import Arguments
    from pannier.build.sources import Root
    from pannier.build.stages import Stage
    from pannier.build.state import State
    from pannier.images.config import RunConfig

__all__ = ["StageBuilder"]

_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StageBuilder:
    """Builds one stage.

    :param state: what it begins from.
    """

    def __init__(self, build: Build, stage: Stage, channel: Channel, arguments: Arguments) -> None:
        self._build = build
        self._stage = stage
        self._channel = channel
        self._arguments = arguments
        self._state: State
        self._escape = build.dockerfile.escape

    async def run(self, base: State, more: tuple[Instruction, ...]) -> State:
        """Build the stage on *base*; *more* follows its own instructions."""
        channel = self._channel
        triggers = base.config.on_build
        config = replace(base.config, on_build=())
        if not any(entry.startswith("PATH=") for entry in config.env):
            config = replace(config, env=(*config.env, f"PATH={_DEFAULT_PATH}"))
        self._state = replace(base, config=config, cmd_set=False)
        if base.image is not None:
            channel.say(f" ---> {short_id(base.image)}")
        line = self._stage.begin.source.line
        if triggers:
            plural = "" if len(triggers) == 1 else "s"
            channel.say(f"# Executing {len(triggers)} build trigger{plural}")
            for trigger in triggers:
                await self._step(parse_trigger(trigger, line))
        for instruction in (*self._stage.instructions, *more):
            channel.step(instruction.source.original)
            await self._step(instruction)
            assert self._state.image is not None
            channel.say(f" ---> {short_id(self._state.image)}")
        if self._state.image is not None:
            channel.send(Built(self._state.image))
        return self._state

    async def _step(self, instruction: Instruction) -> None:
        try:
            await self._dispatch(instruction)
        except BuildFailed as error:
            raise _located(instruction, error) from None
        except PannierError as error:
            word = instruction.source.keyword
            message = error.message
            if word in ("COPY", "ADD") and not message.startswith(f"{word} failed"):
                message = f"{word} failed: {message}"
            located = BuildFailed(message, hint=error.hint)
            raise _located(instruction, located) from error

    async def _dispatch(self, instruction: Instruction) -> None:
        if isinstance(instruction, Run):
            await self._run(instruction)
        elif isinstance(instruction, Copy):
            await self._copy(instruction)
        elif isinstance(instruction, Workdir):
            await self._workdir(instruction)
        else:
            await self._configure(instruction)

    def _expand(self, text: str) -> str:
        variables = self._arguments.variables(self._state.config.env)
        return expand(text, variables, self._escape)

    # The configuration.

    async def _configure(self, instruction: Instruction) -> None:
        state = self._state
        done = configure(
            instruction, state.config, self._arguments, self._escape, cmd_set=state.cmd_set
        )
        assert done is not None
        created_by = nop(done.config, done.comment)
        key = make_key(
            state.key,
            "config",
            created_by,
            digest_of(dump(done.config.document())),
            str(done.author),
        )
        cmd_set = state.cmd_set or done.cmd_set
        if not await self._from_cache(key, done.config, created_by):
            committer = self._build.committer
            after = await self._build.workers.run(
                committer.commit, state, done.config, created_by, key, author=done.author
            )
            await self._finish(after)
        self._state = replace(self._state, config=done.config, cmd_set=cmd_set)

    async def _workdir(self, instruction: Workdir) -> None:
        state = self._state
        path = self._expand(instruction.path)
        if not path:
            raise InvalidRequest("WORKDIR requires exactly one argument")
        config = replace(state.config, working_dir=working_dir(state.config, path))
        created_by = nop(config, f"WORKDIR {config.working_dir}")
        key = make_key(state.key, "workdir", created_by)
        if await self._from_cache(key, config, created_by):
            return
        committer = self._build.committer
        commit = partial(committer.commit, state, config, created_by, key)
        after = await self._build.workers.bulk(
            layering.make_folder, committer, state.top, config.working_dir, commit
        )
        await self._finish(after)

    # The cache.

    async def _from_cache(self, key: str, config: RunConfig, created_by: str) -> bool:
        found = await self._build.probe(self._state, key, config, created_by)
        if found is None:
            return False
        self._channel.say(" ---> Using cache")
        self._state = replace(found, config=config, cmd_set=self._state.cmd_set)
        return True

    async def _finish(self, after: State) -> None:
        """Go on from the state after a step, which the cache knows from now on."""
        assert after.image is not None
        await self._build.workers.run(self._build.cache.put, after.key, after.image)
        self._state = after

    # Files.

    async def _copy(self, instruction: Copy) -> None:
        state, build = self._state, self._build
        async with AsyncExitStack() as stack:
            copying = await self._sources(instruction, stack)
            copying.check()
            # Without a space behind it, as Docker writes it.
            chown = f"--chown={copying.chown}" if copying.chown else ""
            destination = self._expand(instruction.destination)
            comment = f"{instruction.source.keyword} {chown}{copying.digest} in {destination} "
            created_by = nop(state.config, comment)
            key = make_key(
                *(state.key, "copy", created_by, copying.destination, str(copying.mode)),
                *(str(copying.keep), str(copying.parents), *instruction.excludes),
            )
            if await self._from_cache(key, state.config, created_by):
                return
            commit = partial(build.committer.commit, state, state.config, created_by, key)
            after = await build.workers.bulk(
                layering.write_copy, build.committer, state.top, copying, commit
            )
        await self._finish(after)

    async def _sources(self, instruction: Copy, stack: AsyncExitStack) -> layering.Copying:
        state = self._state
        excludes = None
        if instruction.excludes:
            excludes = IgnoreRules("\n".join(self._expand(text) for text in instruction.excludes))
        documents = {heredoc.name: heredoc for heredoc in instruction.heredocs}
        files: list[tuple[Root, Item]] = []
        texts: list[layering.Text] = []
        destination = self._expand(instruction.destination)
        root = None
        for source in instruction.sources:
            name = source.lstrip("0123456789")
            name = name.removeprefix("<<").removeprefix("-").strip("\"'")
            if "<<" in source and name in documents:
                heredoc = documents[name]
                text = self._expand_document(heredoc.text) if heredoc.expand else heredoc.text
                texts.append(_document(name, text))
                continue
            path = self._expand(source)
            if instruction.add and is_url(path):
                texts.append(await self._fetched(path, instruction, destination))
                continue
            if instruction.checksum:
                raise InvalidRequest("checksum can't be specified for local sources")
            if root is None:
                root = await self._build.root(self._stage, instruction.origin, stack)
            found = await self._build.workers.bulk(root.find, path, excludes)
            files += [(root, item) for item in found]
        absolute = working_dir(state.config, destination)
        if destination.endswith("/") or destination in (".", "./", "..", ""):
            absolute = absolute.rstrip("/") + "/"
        return layering.Copying(
            tuple(files),
            tuple(texts),
            absolute,
            chown=self._expand(instruction.chown),
            mode=layering.parse_mode(self._expand(instruction.chmod)),
            keep=bool(instruction.origin),
            unpack=instruction.add,
            parents=instruction.parents,
            excludes=excludes,
        )

    def _expand_document(self, text: str) -> str:
        # Quotes mean nothing in a document: only variables are replaced.
        marked = text.replace("'", "\ue000").replace('"', "\ue001")
        return self._expand(marked).replace("\ue000", "'").replace("\ue001", '"')

    async def _fetched(self, url: str, instruction: Copy, destination: str) -> layering.Text:
        checksum = self._expand(instruction.checksum)
        fetched = await self._build.workers.bulk(fetch, url, checksum)
        if not fetched.name and destination.endswith("/"):
            raise InvalidRequest(f"cannot determine filename for source {url}")
        digest = f"file:{make_key(fetched.name, digest_of(fetched.data))}"
        item = Item(fetched.name, fetched.name, folder=False, digest=digest)
        return layering.Text(item, fetched.data, fetched.mtime, mode=0o600)

    # Commands.

    async def _run(self, instruction: Run) -> None:
        state, build = self._state, self._build
        words = self._words(instruction)
        recorded = self._arguments.recorded(state.config.env)
        shown = " ".join(words)
        created_by = f"|{len(recorded)} {' '.join(recorded)} {shown}" if recorded else shown
        async with AsyncExitStack() as stack:
            mounts = RunMounts(build, self._stage, state, instruction, self._expand)
            await mounts.open(stack)
            key = make_key(
                *(state.key, "run", dump(list(words)).decode(), created_by),
                *(instruction.network, build.request.network, mounts.digest),
            )
            if await self._from_cache(key, state.config, created_by):
                return
            if state.image is None:
                # A command needs an image to run on, if only to fail in it.
                state = await build.workers.run(
                    build.committer.commit, state, state.config, nop(state.config, ""), state.key
                )
                assert state.image is not None
            prepared = await mounts.prepare(stack)
            arguments = self._arguments.values(state.config.env)
            env = [f"{name}={value}" for name, value in arguments.items()]
            command = Command(
                image=state.image or "",
                words=words,
                shown=shown,
                env=tuple(env),
                network=instruction.network,
                mounts=tuple(prepared.specs),
            )
            commit = partial(build.committer.commit, state, state.config, created_by, key)
            after = await build.execute(command, mounts, self._channel, commit)
        await self._finish(after)

    def _words(self, instruction: Run) -> tuple[str, ...]:
        command = instruction.command
        if not instruction.heredocs or not command.line:
            return full_command(command, self._state.config)
        line = command.words[0]
        only = instruction.heredocs[0]
        if len(instruction.heredocs) == 1 and _is_document(line, only.name):
            text = only.text
        else:
            below = "".join(f"\n{one.content}{one.name}" for one in instruction.heredocs)
            text = line + below
        return full_command(replace(command, words=(text,)), self._state.config)


def _is_document(line: str, name: str) -> bool:
    """Whether a command is nothing but the beginning of a document: the document is the script."""
    stripped = line.strip().lstrip("0123456789")
    if not stripped.startswith("<<"):
        return False
    return stripped.removeprefix("<<").removeprefix("-").strip("\"'") == name


def _document(name: str, text: str) -> layering.Text:
    data = text.encode("utf-8", "surrogateescape")
    digest = f"file:{make_key(name, digest_of(data))}"
    return layering.Text(Item(name, posixpath.basename(name), folder=False, digest=digest), data, 0)


def _located(instruction: Instruction, error: BuildFailed) -> BuildFailed:
    """Return an error with the line of the Dockerfile, and the instruction, in its hint."""
    source = instruction.source
    where = f"Dockerfile:{source.line}: {source.original.splitlines()[0][:200]}"
    hint = where if not error.hint else f"{where} ({error.hint})"
    return BuildFailed(error.message, code=error.code, hint=hint)
