"""What the engine says of itself, its disk and its images; and the worker threads under it all."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from typing import TYPE_CHECKING, BinaryIO
from unittest import mock

import pytest

from pannier.engine.model import ContainerConfig
from pannier.engine.sessions import AttachOptions, LogOptions
from pannier.engine.volumes import VolumeStore
from pannier.engine.workers import Workers, uninterrupted
from pannier.errors import Conflict, DriverError, NotFound
from support.engine_rig import Rig, chunks, engine_test, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from pannier.engine.model import Volume


@engine_test
async def test_info_counts(rig: Rig) -> None:
    """Containers by state, images, and the drivers in use."""
    await rig.create("one")
    await rig.run("two")
    await rig.run("three")
    await rig.engine.containers.pause("three")
    info = await rig.engine.system.info()
    assert (info.containers, info.running, info.paused, info.stopped) == (3, 1, 1, 1)
    assert (info.images, info.storage_driver, info.default_runtime) == (1, "fake", "fake")
    assert info.networks == ("bridge", "host", "none", "container")
    assert "memory" in info.resources
    assert info.cpus > 0
    assert info.memory > 1 << 20
    assert (await rig.engine.system.info()).id == info.id


@engine_test
async def test_disk_usage(rig: Rig) -> None:
    """Each container's own bytes and its image's; each volume with its users."""
    await rig.create("web", config=ContainerConfig(volumes=("/data",)))
    usage = await rig.engine.system.disk_usage()
    [container] = usage.containers
    assert container.size_rw == 100
    assert container.size_root == 100 + usage.layers_size
    [(volume, size)] = usage.volumes
    assert volume.anonymous
    assert (size.size, size.references) == (0, 1)
    assert await rig.engine.containers.sizes("web") == (100, 100 + usage.layers_size)


@engine_test
async def test_a_container_that_goes_while_it_is_measured(rig: Rig) -> None:
    """It counts nothing, whether its driver knows that it has gone or only misses its files."""

    def gone(*_: object) -> None:
        raise FileNotFoundError("upper")

    await rig.create("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(rig.engine.drivers.storage), "usage", gone)
        [container] = (await rig.engine.system.disk_usage()).containers
    assert container.size_rw == 0


def test_volumes_whose_filesystem_hangs(tmp_path: Path) -> None:
    """Their size is not known, and theirs alone; a prune takes them all the same."""
    never = threading.Event()
    measure = VolumeStore.usage

    def usage(store: VolumeStore, volume: Volume) -> int:
        if volume.name.startswith("far"):
            never.wait()
        return measure(store, volume)

    async def main() -> None:
        rig = Rig(tmp_path, patience=0.2)
        async with asyncio.timeout(60), rig.running():
            try:
                for name in ("far", "far2", "near"):
                    await rig.engine.volumes.create(name)
                found = (await rig.engine.system.disk_usage()).volumes
                sizes = {volume.name: size.size for volume, size in found}
                assert sizes == {"far": -1, "far2": -1, "near": 0}
                pruned = await rig.engine.volumes.prune({"all": ("1",)})
                assert (len(pruned.deleted), pruned.reclaimed) == (3, 0)
            finally:
                never.set()

    with mock.patch.object(VolumeStore, "usage", usage):
        asyncio.run(main())


@engine_test
async def test_a_volume_that_goes_while_it_is_measured(rig: Rig) -> None:
    """It is left out; the others' usage is told."""
    await rig.engine.volumes.create("gone")
    await rig.engine.volumes.create("kept")
    volumes = rig.engine.system.volumes
    listed = volumes.list({})
    await volumes.remove("gone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(volumes), "list", lambda *_: listed)
        usage = await rig.engine.system.disk_usage()
    assert [volume.name for volume, _ in usage.volumes] == ["kept"]


@engine_test
async def test_a_commit_takes_the_containers_configuration(rig: Rig) -> None:
    """Changed as was asked; a running container is frozen meanwhile, and thawed whatever comes."""
    container = await rig.run("web", config=ContainerConfig(env=("A=1",), cmd=("run",)))
    frozen: list[bool] = []
    write = rig.storage.write_diff

    def watch(key: str, out: BinaryIO) -> None:
        frozen.append(container.id in rig.resources.frozen)
        write(key, out)

    rig.storage.write_diff = watch  # type: ignore[method-assign]
    image = await rig.engine.containers.commit(
        "web", repository="made", tag="1", changes=("ENV B=2",), author="me", message="why"
    )
    found = await rig.engine.images.get("made:1")
    assert found.id == image
    assert set(found.config.config.env) >= {"A=1", "B=2", "IMAGE=yes"}
    assert found.config.config.cmd == ("run",)
    assert (found.config.author, found.config.comment) == ("me", "why")
    assert frozen == [True]
    assert rig.resources.frozen == set()

    def fail(key: str, out: BinaryIO) -> None:
        raise DriverError(f"no {key} for {out}")

    rig.storage.write_diff = fail  # type: ignore[method-assign]
    with pytest.raises(DriverError):
        await rig.engine.containers.commit("web")
    assert rig.resources.frozen == set()


@engine_test
async def test_images_tell_events(rig: Rig) -> None:
    """Tags, removals, saves and loads."""
    images = rig.engine.images
    await images.tag("small", "other:1")
    await images.remove("other:1")
    with pytest.raises(NotFound):
        await images.save(["nope"])
    saved = b"".join([chunk async for chunk in await images.save(["small"])])
    await images.remove("small")
    assert [event async for event in images.load(chunks(saved))]
    told = ["load", "tag", "untag", "save", "untag", "delete", "load"]
    assert rig.actions("image") == told
    assert len(await images.list()) == 1


@engine_test
async def test_events_of_images_tell_their_labels(rig: Rig) -> None:
    """And the image's id; but of one that has gone there is only that."""
    images = rig.engine.images
    await rig.run("web")
    id = await rig.engine.containers.commit(
        "web", repository="made", tag="1", changes=("LABEL a=b",)
    )
    saved = b"".join([chunk async for chunk in await images.save(["made:1", "made:1"])])
    await rig.engine.containers.remove("web", force=True)
    await images.remove("made:1")
    assert [event async for event in images.load(chunks(saved))]
    told = [
        (event.action, event.attributes)
        for event in rig.engine.events._history
        if event.kind == "image" and event.actor == id
    ]
    named = {"a": "b", "name": id}
    assert told == [
        ("create", named),
        ("tag", {"a": "b", "name": "made:1"}),
        ("save", named),
        ("untag", named),
        ("delete", {"name": id}),
        ("load", named),
    ]


@engine_test
async def test_attaching_to_a_paused_container(rig: Rig) -> None:
    """It is refused, as input would go nowhere."""
    await rig.run("web")
    await rig.engine.containers.pause("web")
    with pytest.raises(Conflict, match="unpause the container before attach"):
        await rig.engine.containers.attach("web", AttachOptions(stream=True), 0)


@engine_test
async def test_what_takes_a_running_container(rig: Rig) -> None:
    """Top and resize say that it does not run; logs of a new one are empty; stats are zeros."""
    container = await rig.create("web")
    for request in (
        rig.engine.containers.top("web"),
        rig.engine.containers.resize("web", 1, 2),
    ):
        with pytest.raises(Conflict, match=f"Container {container.id} is not running"):
            await request
    follow = LogOptions(follow=True)
    assert [line async for line in rig.engine.containers.logs("web", follow)] == []
    assert (await rig.engine.containers.statistics("web")).usage.memory == 0
    await rig.engine.containers.start("web")
    await rig.engine.containers.resize("web", 1, 2)
    assert rig.world.log == [f"resize {container.id} 1x2"]
    assert (await rig.engine.containers.statistics("web")).usage.memory == 7


def _with_workers(test) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a coroutine function
    async def main() -> None:
        workers = Workers()
        async with asyncio.timeout(20):
            await test(workers)
            await workers.close()

    asyncio.run(main())


def test_errors_of_the_system_are_named() -> None:
    """An OSError of a driver reaches nobody as such."""

    async def test(workers: Workers) -> None:
        with pytest.raises(DriverError, match="No such file"):
            await workers.run(open, "/no/such")

    _with_workers(test)


def test_a_stream_ends_with_its_consumer() -> None:
    """A producer whose consumer has gone is stopped and closed, though it never ends by itself."""
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    async def test(workers: Workers) -> None:
        async with contextlib.aclosing(workers.stream(endless())) as items:
            assert [await anext(items) for _ in range(20)] == list(range(20))
        assert closed.is_set()
        with pytest.raises(ZeroDivisionError):
            _ = [item async for item in workers.stream(1 // number for number in (1, 0))]

    _with_workers(test)


def test_what_is_written_is_yielded() -> None:
    """In big pieces, in order; a consumer that goes makes the next write fail."""
    errors: list[BaseException] = []

    def write(out: BinaryIO) -> None:
        try:
            out.writelines(b"x" * 1000 for _ in range(10000))
        except BrokenPipeError as error:
            errors.append(error)
            raise

    async def test(workers: Workers) -> None:
        total = 0
        async for chunk in workers.written(write):
            total += len(chunk)
        assert total == 10_000_000
        async with contextlib.aclosing(workers.written(write)) as items:
            await anext(items)
        assert len(errors) == 1

    _with_workers(test)


def test_what_is_fed_is_read() -> None:
    """A body's chunks are one file on a thread; where they break off, its read fails."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"begin"
        raise ConnectionResetError("gone")

    async def test(workers: Workers) -> None:
        async with workers.reading(chunks(b"ab", b"", b"c" * 100_000)) as stream:
            assert await workers.bulk(stream.read) == b"ab" + b"c" * 100_000
        # What nobody reads is dropped, so that a client can send to its end.
        async with workers.reading(chunks(*[b"x"] * 1000)) as stream:
            assert await workers.bulk(stream.read, 1) == b"x"
        async with workers.reading(broken()) as stream:
            with pytest.raises(DriverError, match="broke off"):
                await workers.bulk(stream.read)

    _with_workers(test)


def test_what_must_not_be_interrupted() -> None:
    """It goes on to its end although its caller is cancelled."""
    ended = io.StringIO()

    @uninterrupted
    async def work() -> None:
        await asyncio.sleep(0.01)
        ended.write("done")

    async def test(_: Workers) -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: ended.getvalue() == "done")

    _with_workers(test)
