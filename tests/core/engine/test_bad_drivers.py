"""Drivers that misbehave in their methods harm their own containers, and nothing else.

Each row of the tables is a driver that is good but for one method. A container that has to do with
it is acted upon; another one, on good drivers, goes on running, and a further one can be made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.logfile import STDOUT, pack_header
from pannier.drivers.network import Attachment, Endpoint, Namespace, NetworkSpec, PortRequest
from pannier.drivers.operations import Plan
from pannier.drivers.resources import ResourceUsage
from pannier.drivers.runtime import ExitEvent, RuntimeState
from pannier.engine import watching
from pannier.engine.model import EndpointOptions, HostOptions, LogConfig, Status
from pannier.engine.promptness import Aside
from pannier.engine.sessions import AttachOptions, ExecConfig, LogOptions
from pannier.errors import DriverError, PannierError, UnsupportedOperation
from pannier.images.filters import ImageFilters
from support.bad_drivers import (
    NEVER,
    BadLog,
    BadNetwork,
    BadRuntime,
    BadStorage,
    BadWatch,
    Bare,
    BareRefusal,
    Rude,
    acting,
    closed_descriptor,
    ending_in,
    gives,
    hangs,
    planning,
    raises,
    spoiled,
)
from support.engine_rig import Rig, chunks, eventually
from support.fakes import World
from support.images import Entry, tar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

PATIENCE = 0.3

HOSTS = {
    "storage": HostOptions(storage_options={"driver": "bad"}),
    "network": HostOptions(network_mode="bad"),
    "runtime": HostOptions(runtime="bad"),
    "log": HostOptions(log=LogConfig("bad")),
    "resources": HostOptions(),
}
"""What a container is made with to have to do with the driver that misbehaves."""


class BadRig(Rig):
    """An engine with a driver that misbehaves beside each good one; of resources it has but one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, patience=PATIENCE)
        (folder / "elsewhere").mkdir()
        elsewhere = World(folder / "elsewhere")
        drivers = self.drivers
        self.drivers = replace(
            drivers,
            storages={**drivers.storages, "bad": BadStorage(elsewhere)},
            networks={**drivers.networks, "bad": BadNetwork(elsewhere)},
            runtimes={**drivers.runtimes, "bad": BadRuntime(elsewhere)},
            logs={**drivers.logs, "bad": BadLog(elsewhere)},
        )

    def bad(self, kind: str) -> Any:
        """Return the driver of a kind that misbehaves."""
        kinds: dict[str, Any] = {
            "storage": self.drivers.storages,
            "network": self.drivers.networks,
            "runtime": self.drivers.runtimes,
            "log": self.drivers.logs,
        }
        return self.drivers.resources if kind == "resources" else kinds[kind]["bad"]


# What is done to the container that has to do with the driver.


async def create(rig: Rig, host: HostOptions) -> None:
    """Make it."""
    await rig.create("victim", host=host)


async def start(rig: Rig, host: HostOptions) -> None:
    """Make it and start it."""
    await rig.run("victim", host=host)


async def stop(rig: Rig, _: HostOptions) -> None:
    """Stop it."""
    await rig.engine.containers.stop("victim")


async def end(rig: Rig, _: HostOptions) -> None:
    """Have its process end, and the engine be done with that."""
    container = rig.engine.containers.get("victim")
    runtime: Any = rig.drivers.runtimes[container.host.runtime]
    runtime.end(container.id, 3)
    await eventually(lambda: rig.status("victim") is Status.EXITED)
    await eventually(rig.live("victim").stopped.is_set)


async def remove(rig: Rig, _: HostOptions) -> None:
    """Remove it, running or not."""
    await rig.engine.containers.remove("victim", force=True)


async def inspect(rig: Rig, _: HostOptions) -> None:
    """Ask what its storage driver shows of it."""
    containers = rig.engine.containers
    assert await containers.driver_data(containers.get("victim")) == {}


async def measure(rig: Rig, _: HostOptions) -> None:
    """Ask what it uses."""
    await rig.engine.containers.statistics("victim")


async def size(rig: Rig, _: HostOptions) -> None:
    """Ask how large it is."""
    await rig.engine.containers.sizes("victim")


async def disk_usage(rig: Rig, _: HostOptions) -> None:
    """Ask how large everything is."""
    await rig.engine.system.disk_usage()


async def prune(rig: Rig, _: HostOptions) -> None:
    """Remove it with all others that have stopped, of which there is another one on its driver."""
    host = HOSTS["storage"]
    another = await rig.create("another", host=host)
    victim = rig.engine.containers.get("victim")
    result = await rig.engine.containers.prune({})
    assert set(result.deleted) == {victim.id, another.id}
    assert result.reclaimed == 0


async def try_prune(rig: Rig, _: HostOptions) -> None:
    """Try to remove it with all others that have stopped."""
    result = await rig.engine.containers.prune({})
    assert result.deleted == ()


async def diff(rig: Rig, _: HostOptions) -> None:
    """Ask what it has changed."""
    await rig.engine.containers.changes("victim")


async def download(rig: Rig, _: HostOptions) -> None:
    """Copy something out of it."""
    with pytest.raises(PannierError, match="did not answer"):
        await rig.engine.containers.archive_stat("victim", "/etc")
    await rig.engine.containers.archive_get("victim", "/etc")


async def upload(rig: Rig, _: HostOptions) -> None:
    """Copy something into it."""
    await rig.engine.containers.archive_put("victim", "/etc", chunks(tar([Entry("file", b"")])))


async def unload(rig: Rig, host: HostOptions) -> None:
    """Remove its image, of which the layers are not the driver's alone, and load it again."""
    await remove(rig, host)
    await rig.engine.containers.remove("beside", force=True)
    removed = await rig.engine.images.remove("small")
    assert [type(item).__name__ for item in removed] == ["UntaggedImage", "DeletedImage"]
    assert not await rig.engine.images.list(all=True)
    await rig.load()
    await rig.run("beside")


async def clear(rig: Rig, host: HostOptions) -> None:
    """Remove its image, with all that no container uses."""
    await remove(rig, host)
    await rig.engine.containers.remove("beside", force=True)
    found = await rig.engine.images.prune(ImageFilters(dangling=False))
    assert found.reclaimed == 0
    assert not await rig.engine.images.list(all=True)
    await rig.load()
    await rig.run("beside")


async def export(rig: Rig, _: HostOptions) -> None:
    """Ask for all of its files."""
    await rig.engine.containers.export("victim")


async def top(rig: Rig, _: HostOptions) -> None:
    """Ask which processes it has."""
    await rig.engine.containers.top("victim")


async def pause(rig: Rig, _: HostOptions) -> None:
    """Pause it."""
    await rig.engine.containers.pause("victim")


async def resize(rig: Rig, _: HostOptions) -> None:
    """Change the size of its terminal."""
    await rig.engine.containers.resize("victim", 24, 80)


async def attach(rig: Rig, _: HostOptions) -> None:
    """Attach a client."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        options = AttachOptions(stream=True, stdout=True)
        await rig.engine.containers.attach("victim", options, theirs.fileno())


async def execute(rig: Rig, _: HostOptions) -> None:
    """Run a further process in it."""
    execs = rig.engine.execs
    await execs.start(await execs.create("victim", ExecConfig(("true",))), detach=True)


async def logs(rig: Rig, _: HostOptions) -> None:
    """Read its log."""
    async for _line in rig.engine.containers.logs("victim", LogOptions()):
        pass


async def write(rig: Rig, _: HostOptions) -> None:
    """Have it say something, for the log driver to be handed."""
    container = rig.engine.containers.get("victim")
    path = rig.folder / "containers" / container.id / "output.log"
    path.write_bytes(pack_header(1, STDOUT, 6) + b"hello\n")


async def connect(rig: Rig, _: HostOptions) -> None:
    """Have it join the driver's network while it runs."""
    await rig.engine.networks.connect("bad", "victim", EndpointOptions())


async def make_network(rig: Rig, _: HostOptions) -> None:
    """Make a network of the driver's."""
    await rig.engine.networks.create("lan", driver="bad")


async def unmake_network(rig: Rig, _: HostOptions) -> None:
    """Remove it again."""
    await rig.engine.networks.remove("lan")


NOTHING: dict[Any, tuple[Any, ...]] = {
    create: (),
    start: (),
    connect: (start,),
    prune: (create,),
    download: (create,),
    export: (create,),
    upload: (create,),
    unload: (create,),
    clear: (create,),
    try_prune: (create,),
    make_network: (),
    unmake_network: (make_network,),
}
"""What an act needs to have been done before; all others a running container."""


@dataclass(frozen=True)
class Bad:
    """A driver that misbehaves.

    :param told: what the caller is told, or the log, besides the driver's name; empty for the
        method's name.
    :param logged: the caller is told nothing, and the log has it.
    """

    kind: str
    method: str
    deed: Any
    act: Any
    told: str = ""
    logged: bool = False

    @property
    def name(self) -> str:
        """What pytest calls the row."""
        deed = getattr(self.deed, "__qualname__", "").partition(".")[0].strip("_<>")
        return f"{self.kind}-{self.method}-{deed}-{self.act.__name__}"


STATE = RuntimeState("x", "created", 1)
NOWHERE = Attachment(Endpoint("n"), (closed_descriptor(),))
HARM: Any = None

DRIVERS = [
    # Storage.
    Bad("storage", "has_layer", raises(ZeroDivisionError()), create),
    Bad("storage", "has_layer", gives("yes"), create),
    Bad("storage", "create_layer", raises(KeyError("tar")), create),
    Bad("storage", "create_layer", gives(None), create),
    Bad("storage", "plan_create_container", raises(SystemExit(3)), create, "SystemExit: 3"),
    Bad("storage", "plan_create_container", raises(Rude()), create, "Rude"),
    Bad("storage", "plan_create_container", gives([]), create, "a Plan of operations was due"),
    Bad("storage", "plan_create_container", gives(Plan("x", HARM, lambda: None)), create),
    Bad("storage", "plan_create_container", planning(HARM), create),
    Bad("storage", "plan_create_container", acting(raises(GeneratorExit())), create),
    Bad(
        "storage",
        "plan_create_container",
        raises(UnsupportedOperation("no sizes")),  # although it declares SIZE_LIMIT
        create,
        "no sizes",
    ),
    Bad("storage", "plan_open_root", ending_in(closed_descriptor()), start, "an open folder"),
    Bad("storage", "plan_open_root", ending_in("3"), start),
    Bad("storage", "plan_open_root", acting(raises(KeyboardInterrupt())), start),
    Bad("storage", "plan_open_root", hangs, start, "did not answer"),
    Bad("storage", "plan_open_root", acting(hangs), start, "did not answer"),
    Bad("storage", "plan_open_root", hangs, download, "did not answer"),
    Bad("storage", "plan_open_root", hangs, export, "did not answer"),
    Bad("storage", "plan_open_root", hangs, upload, "did not answer"),
    Bad("storage", "remove_layer", hangs, unload, "did not end within", logged=True),
    Bad("storage", "remove_layer", hangs, clear, "did not end within", logged=True),
    Bad("storage", "remove_layer", raises(KeyError("gone")), unload, "gone", logged=True),
    Bad("storage", "has_layer", hangs, unload, "did not end within", logged=True),
    Bad("storage", "changes", gives("everything"), diff, "list[Change] was due"),
    Bad("storage", "changes", gives(["/etc"]), diff),
    Bad("storage", "changes", hangs, diff, "did not answer"),
    Bad("storage", "usage", gives(None), size, "gave None, where Usage was due"),
    Bad("storage", "usage", raises(OSError(5, "I/O error")), size, "I/O error"),
    Bad("storage", "usage", hangs, size, "did not answer"),
    Bad("storage", "usage", hangs, disk_usage, "did not answer"),
    Bad("storage", "usage", hangs, prune, "did not answer", logged=True),
    Bad("storage", "usage", raises(OSError(5, "I/O error")), prune, "I/O error", logged=True),
    Bad("storage", "remove_container", hangs, try_prune, "could not be pruned", logged=True),
    Bad("storage", "driver_data", gives({"UpperDir": 7}), inspect, logged=True),
    Bad("storage", "driver_data", hangs, inspect, "did not answer", logged=True),
    Bad("storage", "remove_container", raises(AssertionError("stuck")), remove, "stuck"),
    Bad("storage", "remove_container", hangs, remove, "did not answer"),
    # Networks.
    Bad("network", "namespace", raises(IndexError("no")), create),
    Bad("network", "namespace", gives("new"), create, "Namespace was due"),
    Bad("network", "namespace", gives(Namespace("moon")), create),  # type: ignore[arg-type]
    Bad("network", "namespace", hangs, create, "did not end within"),
    Bad("network", "create_network", gives(None), make_network),
    Bad("network", "create_network", gives(NetworkSpec("x", "x", subnets=("10/8",))), make_network),  # type: ignore[arg-type]
    Bad("network", "create_network", hangs, make_network, "did not answer"),
    Bad("network", "remove_network", raises(RecursionError()), unmake_network),
    Bad("network", "plan_attach", raises(SystemExit()), start),
    Bad("network", "plan_attach", gives(STATE), start),
    Bad("network", "plan_attach", ending_in(NOWHERE), start, "whose descriptors are open"),
    Bad("network", "plan_attach", ending_in(Attachment(Endpoint("n", 7))), start),  # type: ignore[arg-type]
    Bad("network", "plan_attach", acting(hangs), start, "did not answer"),
    Bad("network", "plan_attach", acting(raises(StopIteration())), start),
    Bad(
        "network",
        "plan_attach",
        raises(UnsupportedOperation("not while it runs")),  # although it declares LIVE
        connect,
        "not while it runs",
    ),
    Bad("network", "plan_attach", ending_in(NOWHERE), connect, "whose descriptors are open"),
    Bad("network", "detach", raises(KeyError("veth")), end, logged=True),
    Bad("network", "detach", hangs, end, "did not answer", logged=True),
    # Runtimes.
    Bad("runtime", "plan_create", raises(MemoryError()), start),
    Bad("runtime", "plan_create", gives(None), start),
    Bad("runtime", "plan_create", ending_in(None), start),
    Bad("runtime", "plan_create", ending_in(RuntimeState("x", "dancing")), start),  # type: ignore[arg-type]
    Bad("runtime", "plan_create", hangs, start, "did not answer"),
    Bad("runtime", "watch", gives(None), start),
    Bad("runtime", "watch", raises(KeyboardInterrupt()), start),
    Bad("runtime", "start", raises(FileNotFoundError(2, "no monitor")), start, "no monitor"),
    Bad("runtime", "start", hangs, start, "did not answer"),
    Bad(
        "runtime",
        "start",
        raises(UnsupportedOperation("no descriptors")),  # although it declares KEEP_DESCRIPTORS
        start,
        "no descriptors",
    ),
    Bad("runtime", "kill", raises(ProcessLookupError()), stop),
    Bad("runtime", "kill", hangs, stop, "did not answer"),
    Bad("runtime", "delete", raises(SystemExit("bye")), end, logged=True),
    Bad("runtime", "delete", hangs, end, "did not answer", logged=True),
    Bad("runtime", "attach", raises(BlockingIOError(11, "busy")), attach),
    Bad("runtime", "attach", hangs, attach, "did not answer"),
    Bad("runtime", "resize", raises(TypeError("rows")), resize),
    Bad("runtime", "exec", gives("4321"), execute),
    Bad("runtime", "exec", gives(0), execute, "the id of a process was due"),
    Bad("runtime", "exec", raises(GeneratorExit()), execute),
    # Resources.
    Bad("resources", "plan_create", raises(LookupError("cgroup")), start),
    Bad("resources", "path", gives(None), start),
    Bad("resources", "procs", gives("/sys/fs/cgroup/x/cgroup.procs"), start),
    Bad("resources", "mount_points", gives([]), start),
    Bad("resources", "usage", gives({"memory": 7}), measure),
    Bad("resources", "usage", gives(ResourceUsage(memory="7")), measure),  # type: ignore[arg-type]
    Bad("resources", "usage", hangs, measure, "did not answer"),
    Bad("resources", "pids", gives("12"), top),
    Bad("resources", "freeze", raises(TimeoutError("still running")), pause),
    Bad("resources", "delete", raises(Rude()), end, logged=True),
    Bad("resources", "events", hangs, end, "did not answer", logged=True),
    # Logs.
    Bad("log", "check", raises(AttributeError("options")), create),
    Bad("log", "form", gives(7), start),
    Bad("log", "form", gives("file"), logs),
    Bad("log", "form", hangs, logs, "did not end within"),
    Bad("log", "open", gives(None), write, logged=True),
    Bad(
        "log",
        "open",
        raises(UnsupportedOperation("the log driver 'bad' delivers nothing: open()")),
        write,  # although it declares DELIVER
        "delivers nothing",
        logged=True,
    ),
    Bad("log", "open", raises(SystemExit(1)), write, "SystemExit: 1", logged=True),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have what hangs be given up soon, and end with the test."""
    for module in ("endpoints", "logs"):
        monkeypatch.setattr(f"pannier.engine.{module}.AT_ONCE", PATIENCE)
    NEVER.clear()
    yield
    NEVER.set()


@contextlib.asynccontextmanager
async def serving(rig: BadRig) -> AsyncIterator[None]:
    """Give a started engine; afterwards whatever hangs in it comes back."""
    async with asyncio.timeout(60), rig.running():
        try:
            yield
        finally:
            NEVER.set()


async def goes_on(rig: Rig) -> None:
    """See to it that containers on good drivers run, end, and can be made."""
    assert rig.status("beside") is Status.RUNNING
    await rig.ended(rig.engine.containers.get("beside"), 5)
    assert rig.engine.containers.get("beside").state.exit_code == 5
    container = await rig.run("after")
    assert rig.status("after") is Status.RUNNING
    await rig.ended(container)
    await rig.engine.containers.remove("after")
    assert (await rig.engine.system.info()).containers >= 1


@pytest.mark.parametrize("row", DRIVERS, ids=lambda row: row.name)
def test_a_bad_driver_harms_its_own_containers_only(
    row: Bad, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asked is told which driver failed, in what, and what to do; the others go on."""

    async def main() -> None:
        rig = BadRig(tmp_path)
        host = HOSTS[row.kind]
        driver = rig.bad(row.kind)
        async with serving(rig):
            await rig.run("beside")
            for before in NOTHING.get(row.act, (start,)):
                await before(rig, HostOptions() if row.act is connect else host)
            setattr(driver, row.method, row.deed)
            if row.logged:
                await row.act(rig, host)
                await eventually(lambda: (row.told or f"{row.method}()") in caplog.text)
                said, hint = caplog.text, "the log has no hints"
            else:
                with pytest.raises(PannierError) as caught:
                    await row.act(rig, host)
                said, hint = str(caught.value), caught.value.hint or ""
            assert row.told in said
            # Where a driver refuses in words of its own, the hint has whose they are.
            assert f"the {row.kind} driver {driver.id!r}" in said + hint
            assert f"{row.method}()" in said + hint or "did not end within" in said
            assert hint
            if row.kind == "resources":
                # There is but one: all containers are its own for as long as it misbehaves.
                NEVER.set()
                delattr(driver, row.method)
            await goes_on(rig)

    asyncio.run(main())


# What drivers are asked when an engine starts.

BROKEN = spoiled(DriverError("x"), message=OSError(5, "x"))

AT_START = [
    Bad("storage", "layers", raises(KeyError("broken")), None),
    Bad("storage", "layers", gives("sha256"), None),
    Bad("storage", "layers", gives([None]), None),
    Bad("storage", "layers", hangs, None, "did not end within"),
    Bad("storage", "containers", gives(None), None),
    Bad("storage", "containers", raises(SystemExit()), None),
    Bad("network", "create_network", raises(Rude()), None, "Rude"),
    Bad("network", "create_network", raises(Bare()), None, "Bare"),
    Bad("network", "create_network", raises(BareRefusal()), None, "BareRefusal"),
    Bad("network", "create_network", raises(BROKEN), None, "DriverError"),
    Bad("network", "create_network", gives(b""), None),
    Bad("network", "create_network", hangs, None, "did not end within"),
    Bad("network", "reconcile", raises(BaseException()), None),
    Bad("network", "reconcile", hangs, None, "did not end within"),
    Bad("network", "reserve", gives(7), None),
    Bad("network", "reserve", hangs, None, "did not end within"),
    Bad("runtime", "containers", gives(7), None),
    Bad("runtime", "containers", hangs, None, "did not end within"),
    Bad("runtime", "state", raises(KeyboardInterrupt()), None),
    Bad("runtime", "state", gives("running"), None),
    Bad("runtime", "state", hangs, None, "did not end within"),
    Bad("runtime", "watch", gives(object()), None),
    Bad("resources", "groups", gives(None), None),
    Bad("resources", "groups", raises(GeneratorExit()), None),
]


@pytest.mark.parametrize("row", AT_START, ids=lambda row: f"{row.kind}-{row.method}")
def test_the_engine_starts_whatever_a_driver_does(
    row: Bad, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; what the others have is taken over, and the bad one's container not ended."""

    async def main() -> None:
        rig = BadRig(tmp_path)
        async with serving(rig):
            await rig.run("beside")
            host = HOSTS[row.kind]
            if row.method == "reserve":
                host = replace(host, ports=(PortRequest(80),))
            await start(rig, host)
        NEVER.clear()
        driver = rig.bad(row.kind)
        setattr(driver, row.method, row.deed)
        async with serving(rig):
            assert f"the {row.kind} driver {driver.id!r}" in caplog.text
            assert (row.told or f"{row.method}()") in caplog.text
            assert rig.status("victim") is Status.RUNNING
            if row.kind == "resources":
                delattr(driver, row.method)
            await goes_on(rig)

    asyncio.run(main())


# Watches, which the event loop polls.

WATCHES: dict[str, Callable[[], Any]] = {
    "no-descriptor": lambda: BadWatch(fileno=gives(None)),
    "closed": lambda: BadWatch(fileno=gives(closed_descriptor())),
    "fileno-raises": lambda: BadWatch(fileno=raises(SystemExit(1))),
    "read-raises": lambda: BadWatch(read=raises(KeyError("event"))),
    "read-exits": lambda: BadWatch(read=raises(SystemExit(1))),
    "read-gives-none": lambda: BadWatch(read=gives(None)),
    "read-gives-text": lambda: BadWatch(read=gives("exited")),
    "read-gives-odd-events": lambda: BadWatch(read=gives([ExitEvent("x", None, "0", 0.0)])),  # type: ignore[arg-type]
    "close-raises": lambda: BadWatch(read=raises(OSError()), close=raises(KeyboardInterrupt())),
    "says-nothing": BadWatch,
}


@pytest.mark.parametrize("name", WATCHES)
def test_a_watch_that_breaks(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop does not spin; it is said once, and the container's end is known all the same."""
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.02)

    async def main() -> None:
        rig = BadRig(tmp_path)
        driver = rig.bad("runtime")
        made: list[object] = []

        def watch(_: str) -> Any:
            made.append(WATCHES[name]())
            return made[-1]

        driver.watch = watch
        async with serving(rig):
            await rig.run("beside")
            await start(rig, HOSTS["runtime"])
            await eventually(lambda: len(made) > 3)
            assert rig.status("victim") is Status.RUNNING
            await end(rig, HOSTS["runtime"])
            assert rig.engine.containers.get("victim").state.exit_code == 3
            assert caplog.text.count("the watch of its runtime bad broke") == 1
            await goes_on(rig)
        assert not [one for one in made if getattr(one, "_descriptor", -1) >= 0] or "close" in name

    asyncio.run(main())


def _reads_for_ever() -> Any:
    ends = os.pipe()
    try:
        return os.read(ends[0], 1)
    finally:
        for end in ends:
            os.close(end)


def _spins() -> Any:
    while True:
        pass


def _swallows() -> Any:
    try:
        threading.Event().wait()
    except BaseException:  # noqa: BLE001 - as badly as can be
        return []


@pytest.mark.parametrize("blocks", [_reads_for_ever, _spins, _swallows])
@pytest.mark.parametrize("method", ["fileno", "read", "close"])
def test_a_watch_that_blocks(
    method: str,
    blocks: Callable[[], Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop is held up once, and briefly; the runtime is asked for states from then on.

    So it is for all of its containers, those before and those that come.
    """
    monkeypatch.setattr("pannier.bounded.AT_ONCE", 0.05)
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.02)

    async def main() -> None:
        rig = BadRig(tmp_path)
        driver = rig.bad("runtime")
        held_up: list[None] = []

        def deed() -> Any:
            if threading.current_thread() is threading.main_thread():
                held_up.append(None)
                return blocks()
            return None

        async with serving(rig):
            await rig.run("beside")
            early = await rig.run("early", host=HOSTS["runtime"])
            driver.watch = lambda _: BadWatch(**{method: deed})
            await start(rig, HOSTS["runtime"])
            await eventually(lambda: held_up)
            await eventually(lambda: rig.live("early").watch is None and not driver.watches)
            late = await rig.run("late", host=HOSTS["runtime"])
            await end(rig, HOSTS["runtime"])
            assert rig.engine.containers.get("victim").state.exit_code == 3
            for container in (early, late):
                assert rig.live(container.name).watch is None
                assert rig.status(container.name) is Status.RUNNING
                driver.end(container.id, 4)
                await eventually(rig.live(container.name).stopped.is_set)
                assert rig.engine.containers.get(container.name).state.exit_code == 4
            assert len(held_up) == 1
            assert "did not return within 0.05 s" in caplog.text
            assert rig.live("beside").watch is not None
            await goes_on(rig)

    asyncio.run(main())


def test_what_is_called_aside(caplog: pytest.LogCaptureFixture) -> None:
    """In order, and behind what hangs; what one raises is logged, and keeps no other from it."""
    aside = Aside()
    hangs, done = threading.Event(), threading.Event()
    called: list[str] = []
    aside.call(lambda: hangs.wait(60))
    aside.call(raises(SystemExit(3)))
    aside.call(lambda: called.append("second"))
    aside.call(done.set)
    assert called == []
    hangs.set()
    assert done.wait(60)
    assert called == ["second"]
    assert "a call that nobody waits for failed: SystemExit: 3" in caplog.text
    again = threading.Event()
    aside.call(again.set)
    assert again.wait(60)


def test_a_watch_that_recovers(tmp_path: Path) -> None:
    """A watch that is good again is used again, and an exit is known at once."""

    async def main() -> None:
        rig = BadRig(tmp_path)
        driver = rig.bad("runtime")
        driver.watch = lambda _: BadWatch(read=raises(KeyError("event")))
        async with serving(rig):
            await start(rig, HOSTS["runtime"])
            assert rig.live("victim").watch is None
            del driver.watch
            await eventually(lambda: rig.live("victim").watch is not None)
            await end(rig, HOSTS["runtime"])

    asyncio.run(main())


@pytest.mark.parametrize(
    "deeds",
    [
        {"read": raises(OSError(5, "I/O error"))},
        {"fileno": gives(7.5)},
        {"read": gives(0)},
        {"read": _reads_for_ever},
    ],
)
def test_a_watch_of_memory_that_breaks(
    deeds: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That memory ran out is then told at the container's end."""
    monkeypatch.setattr("pannier.engine.ooms.DELAY", 0.0)
    monkeypatch.setattr("pannier.bounded.AT_ONCE", 0.05)

    async def main() -> None:
        rig = BadRig(tmp_path)
        made: list[Any] = []
        original = rig.resources.oom_watch

        def oom_watch(id: str, parent: str = "") -> Any:
            made.append(original(id, parent))
            for name, deed in deeds.items():
                setattr(made[-1], name, deed)
            return made[-1]

        rig.resources.oom_watch = oom_watch  # type: ignore[method-assign]
        async with serving(rig):
            container = await rig.run("victim")
            await eventually(lambda: made)
            if made[0].event >= 0:
                os.eventfd_write(made[0].event, 1)
            await eventually(lambda: made[0].event < 0)
            rig.resources.oom.add(container.id)
            await rig.ended(container, 137)
            assert rig.engine.containers.get("victim").state.oom_killed
            assert "oom" in rig.actions()

    asyncio.run(main())


def test_there_are_enough() -> None:
    """Fifty and more bad drivers are tried, of every kind."""
    assert len(DRIVERS) + len(AT_START) + len(WATCHES) >= 50
    assert {row.kind for row in DRIVERS} == set(HOSTS)
