"""Containers from creation to removal, on fake drivers."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import PortRequest
from pannier.drivers.resources import Limits, ResourceCapability
from pannier.drivers.runtime import RuntimeState
from pannier.engine import ooms
from pannier.engine.model import (
    ContainerConfig,
    CreateOptions,
    HostOptions,
    MountKind,
    MountSpec,
    RestartPolicy,
    Status,
)
from pannier.engine.results import ContainerQuery
from pannier.engine.sessions import AttachOptions
from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound, NotModified, StartFailed
from support.engine_rig import Rig, descriptors_open, engine_test, eventually
from support.fakes import FakeResources

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Never


@engine_test
async def test_a_container_lives_and_its_events_come_in_dockers_order(rig: Rig) -> None:
    """Create, attach, start, die, destroy; afterwards nothing is left of it."""
    containers = rig.engine.containers
    container = await rig.create("web", host=HostOptions(auto_remove=True))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        attach = AttachOptions(stream=True, stdin=True, stdout=True, stderr=True)
        await containers.attach("web", attach, theirs.fileno())
        gone = containers.wait("web", "removed")
        await containers.start("web")
        assert len(rig.runtime.connections[container.id]) == 1
        rig.runtime.end(container.id, 7)
        assert (await gone).exit_code == 7
    assert rig.actions() == ["create", "attach", "start", "die", "destroy"]
    assert rig.actions("network") == ["connect", "disconnect"]
    assert rig.world.held == set()
    assert list(rig.storage.containers()) == []
    await rig.engine._workers.idle()
    assert list((rig.folder / "containers").iterdir()) == []
    with pytest.raises(NotFound, match="No such container: web"):
        containers.get("web")


@engine_test
async def test_a_name_belongs_to_one_container(rig: Rig) -> None:
    """A second container of a name is refused in Docker's words; after a removal it is free."""
    first = await rig.create("web")
    with pytest.raises(Conflict) as caught:
        await rig.create("/web")
    assert str(caught.value) == (
        f'Conflict. The container name "/web" is already in use by container "{first.id}". You '
        f"have to remove (or rename) that container to be able to reuse that name."
    )
    await rig.engine.containers.remove("web")
    await rig.create("web")


@engine_test
async def test_a_failed_creation_gives_its_name_back(rig: Rig) -> None:
    """The name of a container that could not be made can be used by the next."""
    rig.world.count, rig.world.fail_at = 0, 0
    with pytest.raises(DriverError):
        await rig.create("web")
    rig.world.fail_at = None
    await rig.create("web")
    assert len(list(rig.storage.containers())) == 1


@engine_test
async def test_two_creations_of_one_name_at_once(rig: Rig) -> None:
    """Of two that race for a name, one gets it."""
    results = await asyncio.gather(rig.create("x1"), rig.create("x1"), return_exceptions=True)
    assert sorted(type(item).__name__ for item in results) == ["Conflict", "Container"]


@engine_test
async def test_containers_are_found_by_the_beginning_of_their_id(rig: Rig) -> None:
    """A unique prefix finds; an ambiguous one is refused; names win over prefixes."""
    containers = rig.engine.containers
    made = [await rig.create() for _ in range(40)]
    assert containers.get(made[0].id[:12]).id == made[0].id
    letters = [item.id[0] for item in made]
    twice = next(letter for letter in letters if letters.count(letter) > 1)
    with pytest.raises(InvalidRequest, match="multiple IDs found with provided prefix"):
        containers.get(twice)
    named = await rig.create(twice + "0")
    assert containers.get(twice + "0").id == named.id
    with pytest.raises(NotFound):
        containers.get("")


@pytest.mark.parametrize("name", ["a", "-x", "a b", "ä1", "x/y", ".hidden"])
def test_names_that_docker_refuses_are_refused(name: str, tmp_path: Path) -> None:
    """A name is two or more letters, digits and _.-, and begins with a letter or digit."""

    @engine_test
    async def check(rig: Rig) -> None:
        with pytest.raises(InvalidRequest, match="Invalid container name"):
            await rig.create(name)

    check(tmp_path)


@engine_test
async def test_starting_twice_changes_nothing(rig: Rig) -> None:
    """A second start says so; a paused container has to be unpaused instead."""
    containers = rig.engine.containers
    await rig.run("web")
    with pytest.raises(NotModified):
        await containers.start("web")
    await containers.pause("web")
    with pytest.raises(Conflict, match="cannot start a paused container"):
        await containers.start("web")
    with pytest.raises(Conflict, match="is already paused"):
        await containers.pause("web")
    assert rig.status("web") is Status.PAUSED
    await containers.unpause("web")
    with pytest.raises(Conflict, match="is not paused"):
        await containers.unpause("web")


@engine_test
async def test_stop_sends_the_stop_signal_and_waits(rig: Rig) -> None:
    """The container's own stop signal is sent; a stopped one is not stopped again."""
    containers = rig.engine.containers
    container = await rig.run("web", config=ContainerConfig(stop_signal="SIGUSR1"))
    await containers.stop("web")
    assert rig.runtime.signals == [(container.id, signal.SIGUSR1)]
    state = containers.get("web").state
    assert (state.status, state.exit_code) == (Status.EXITED, 128 + signal.SIGUSR1)
    with pytest.raises(NotModified):
        await containers.stop("web")
    assert rig.actions()[-3:] == ["kill", "die", "stop"]


@engine_test
async def test_stop_kills_what_does_not_heed(rig: Rig) -> None:
    """After its time a container that ignores the signal is killed."""
    rig.runtime.exit_on_signal = False
    container = await rig.run("web")
    await rig.engine.containers.stop("web", timeout=0)
    assert [number for _, number in rig.runtime.signals] == [signal.SIGTERM, signal.SIGKILL]
    assert rig.engine.containers.get(container.id).state.exit_code == 137


@engine_test
async def test_kill_needs_a_running_container(rig: Rig) -> None:
    """Signals go to running containers, by any of their names."""
    containers = rig.engine.containers
    container = await rig.create("web")
    with pytest.raises(Conflict, match=f"cannot kill container: web: container {container.id}"):
        await containers.kill("web")
    await containers.start("web")
    rig.runtime.exit_on_signal = False
    await containers.kill("web", "HUP")
    await containers.kill("web", "SIGRTMIN+2")
    with pytest.raises(InvalidRequest, match="Invalid signal: SIGNOPE"):
        await containers.kill("web", "SIGNOPE")
    numbers = [number for _, number in rig.runtime.signals]
    assert numbers == [signal.SIGHUP, int(signal.SIGRTMIN) + 2]
    assert rig.status("web") is Status.RUNNING


@engine_test
async def test_a_paused_container_can_be_killed(rig: Rig) -> None:
    """SIGKILL thaws it, since a frozen process cannot die."""
    containers = rig.engine.containers
    container = await rig.run("web")
    await containers.pause("web")
    assert container.id in rig.resources.frozen
    await containers.kill("web")
    assert container.id not in rig.resources.frozen
    assert rig.status("web") is Status.EXITED


@engine_test
async def test_removing_a_running_container_takes_force(rig: Rig) -> None:
    """Without force it is refused and runs on; with force it is killed first."""
    containers = rig.engine.containers
    await rig.run("web")
    with pytest.raises(Conflict, match="stop the container before removing or force remove"):
        await containers.remove("web")
    assert rig.status("web") is Status.RUNNING
    await containers.remove("web", force=True)
    assert rig.world.held == set()


@engine_test
async def test_a_removal_that_fails_leaves_a_dead_container(rig: Rig) -> None:
    """It can be removed again once the cause is gone."""
    containers = rig.engine.containers
    await rig.create("web")
    rig.storage.remove_error = DriverError("busy")
    with pytest.raises(DriverError, match="busy"):
        await containers.remove("web")
    assert rig.status("web") is Status.DEAD
    rig.storage.remove_error = None
    await containers.remove("web")
    assert list(rig.storage.containers()) == []


@engine_test
async def test_wait_conditions(rig: Rig) -> None:
    """Each condition is answered when Docker answers it, and a wait registers at once."""
    containers = rig.engine.containers
    container = await rig.create("web")
    assert (await containers.wait("web", "not-running")).exit_code == 0
    following = containers.wait("web", "next-exit")
    removed = containers.wait("web", "removed")
    rig.runtime.exit_at_once = 5
    await containers.start("web")
    assert (await following).exit_code == 5
    await eventually(lambda: rig.status("web") is Status.EXITED)
    assert (await containers.wait("web", "not-running")).exit_code == 5
    following = containers.wait("web", "next-exit")
    await asyncio.sleep(0.01)
    assert not removed.done()
    assert not following.done()
    await containers.remove(container.id)
    assert (await removed).exit_code == 5
    # Nobody waits for ever for an exit that cannot come.
    assert (await following).exit_code == 5


@engine_test
async def test_a_wait_that_is_given_up_is_forgotten(rig: Rig) -> None:
    """A client that goes away leaves nothing behind."""
    await rig.run("web")
    waiting = rig.engine.containers.wait("web", "next-exit")
    waiting.cancel()
    await asyncio.sleep(0)
    assert rig.live("web").waiters == []


@pytest.mark.parametrize(("number", "code"), [(2, 127), (13, 126), (8, 126)])
def test_what_cannot_be_executed(number: int, code: int, tmp_path: Path) -> None:
    """A missing program is 127, one that is no program 126; the container can be tried again."""

    @engine_test
    async def check(rig: Rig) -> None:
        await rig.create("web")
        rig.runtime.start_error = StartFailed("exec: nope", errno=number)
        with pytest.raises(StartFailed):
            await rig.engine.containers.start("web")
        state = rig.engine.containers.get("web").state
        assert (state.status, state.exit_code, state.error) == (
            Status.CREATED,
            code,
            "exec: nope",
        )
        assert {name.partition(":")[0] for name in rig.world.held} == {"layer"}
        rig.runtime.start_error = None
        await rig.engine.containers.start("web")

    check(tmp_path)


@engine_test
async def test_clients_of_a_start_that_fails_are_hung_up_on(rig: Rig) -> None:
    """A client that attached before the start sees the end instead of waiting for ever."""
    await rig.create("web")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await rig.engine.containers.attach(
            "web", AttachOptions(stream=True, stdout=True), theirs.fileno()
        )
        rig.runtime.start_error = StartFailed("exec: nope", errno=2)
        with pytest.raises(StartFailed):
            await rig.engine.containers.start("web")
        ours.settimeout(60)
        assert ours.recv(1) == b""


@pytest.mark.parametrize("halfway", [False, True])
def test_a_start_that_fails_anywhere_leaves_nothing(halfway: bool, tmp_path: Path) -> None:
    """Each operation of a start fails in turn; every time all before it are undone."""

    @engine_test
    async def check(rig: Rig) -> None:
        host = HostOptions(ports=(PortRequest(80),))
        container = await rig.create("web", host=host)
        rig.world.count, rig.world.fail_at = 0, None
        await rig.engine.containers.start("web")
        operations = rig.world.count
        assert operations == 5
        await rig.ended(container)
        descriptors = descriptors_open()
        rig.world.fail_halfway = halfway
        for number in range(operations):
            rig.world.count, rig.world.fail_at = 0, number
            with pytest.raises(DriverError, match="made to fail"):
                await rig.engine.containers.start("web")
            assert rig.world.held == {f"layer:{container.id}"}
            assert rig.runtime.watches == []
            assert rig.engine.containers.get("web").endpoints == {}
            assert descriptors_open() == descriptors
        rig.world.fail_at = None
        await rig.engine.containers.start("web")
        assert rig.status("web") is Status.RUNNING

    check(tmp_path)


@engine_test
async def test_reserving_sockets_are_handed_over_and_closed(rig: Rig) -> None:
    """Sockets of published ports go to the runtime, which keeps its own copies."""
    descriptors = descriptors_open()
    container = await rig.run("web", host=HostOptions(ports=(PortRequest(80),)))
    assert len(rig.runtime.kept[container.id]) == 1
    # One more: the watch.
    assert descriptors_open() == descriptors + 1
    await rig.engine.containers.stop("web")
    assert descriptors_open() == descriptors


@engine_test
async def test_a_runtime_that_cannot_keep_descriptors(rig: Rig) -> None:
    """The engine then holds them itself until the container stops."""
    runtime: Any = rig.engine.drivers.runtimes["fake"]
    runtime.capabilities = frozenset()
    descriptors = descriptors_open()
    await rig.run("web", host=HostOptions(ports=(PortRequest(80),)))
    assert descriptors_open() == descriptors + 2
    await rig.engine.containers.stop("web")
    assert descriptors_open() == descriptors


@engine_test
async def test_out_of_memory_is_told(rig: Rig) -> None:
    """A kill by the kernel for memory is noted, with an event."""
    container = await rig.run("web")
    rig.resources.oom.add(container.id)
    await rig.ended(container, 137)
    assert rig.engine.containers.get("web").state.oom_killed
    actions = rig.actions()
    assert actions.index("oom") < actions.index("die")


def test_out_of_memory_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the container goes on, each time; its end then does not tell it again."""
    monkeypatch.setattr(ooms, "DELAY", 0)

    def told(rig: Rig, count: int) -> bool:
        return rig.actions().count("oom") == count

    async def main() -> None:
        rig = Rig(tmp_path)
        async with rig.running():
            container = await rig.run("web")
            await eventually(lambda: container.id in rig.resources.watches)
            for count in (1, 2):
                os.eventfd_write(rig.resources.watches[container.id].event, 3)
                await eventually(functools.partial(told, rig, count))
            rig.resources.oom.add(container.id)
            await rig.ended(container, 137)
            assert rig.engine.containers.get("web").state.oom_killed
            assert rig.actions().count("oom") == 2

    asyncio.run(main())


def test_out_of_memory_just_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, whether or not the watch was looked at."""
    monkeypatch.setattr(ooms, "DELAY", 0)

    async def main() -> None:
        rig = Rig(tmp_path)
        async with rig.running():
            container = await rig.run("web")
            await eventually(lambda: container.id in rig.resources.watches)
            await rig.engine._workers.idle()
            rig.resources.oom.add(container.id)
            os.eventfd_write(rig.resources.watches[container.id].event, 1)
            await rig.ended(container, 137)
            assert rig.actions().count("oom") == 1
            assert rig.resources.watches[container.id].event == -1

    asyncio.run(main())


def test_out_of_memory_before_it_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel counted between start and watch is told; not again by the next engine."""

    async def main() -> None:
        rig = Rig(tmp_path)
        async with rig.running():
            container = await rig.run("web")
            rig.resources.oom.add(container.id)
            await eventually(lambda: "oom" in rig.actions())
        monkeypatch.setattr(ooms, "DELAY", 0)
        rig.resources.watches.clear()
        async with rig.running():
            await eventually(lambda: container.id in rig.resources.watches)
            await rig.engine._workers.idle()
            assert "oom" not in rig.actions()
            os.eventfd_write(rig.resources.watches[container.id].event, 1)
            await eventually(lambda: rig.actions().count("oom") == 1)
        assert rig.resources.watches[container.id].event == -1

    asyncio.run(main())


@engine_test
async def test_a_lost_monitor_is_told(rig: Rig) -> None:
    """Where the exit status is not known, the error says so."""
    container = await rig.run("web")
    await rig.ended(container, 137, lost=True)
    state = rig.engine.containers.get("web").state
    assert (state.exit_code, state.status) == (137, Status.EXITED)
    assert "lost" in state.error


@engine_test
async def test_a_monitor_that_ends_without_a_word(rig: Rig) -> None:
    """Its watch fails; the runtime is asked what became of the container, on another thread."""
    container = await rig.run("web")
    [watch] = rig.runtime.watches

    def fail() -> Never:
        raise DriverError("the monitor has ended without a word")

    asked: list[threading.Thread] = []

    def state(id: str) -> RuntimeState:
        asked.append(threading.current_thread())
        return RuntimeState(id, "stopped", 0, 137, 1234.5, lost=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "read", fail)
        patch.setattr(rig.runtime, "state", state)
        rig.runtime.leave(container.id)
        await eventually(lambda: rig.status("web") is Status.EXITED)
    found = rig.engine.containers.get("web").state
    assert found.exit_code == 137
    assert "lost" in found.error
    assert asked
    assert threading.main_thread() not in asked


@engine_test
async def test_rename(rig: Rig) -> None:
    """A container answers to its new name only; names taken and unchanged are refused."""
    containers = rig.engine.containers
    await rig.create("one")
    await rig.create("two")
    with pytest.raises(Conflict, match="is already in use"):
        await containers.rename("one", "two")
    with pytest.raises(InvalidRequest, match="same name as its current name"):
        await containers.rename("one", "one")
    await containers.rename("one", "three")
    with pytest.raises(NotFound):
        containers.get("one")
    await rig.create("one")
    assert rig.actions().count("rename") == 1


@engine_test
async def test_update_changes_limits_in_use(rig: Rig) -> None:
    """Limits of a running container are handed on; what was not named stays."""
    containers = rig.engine.containers
    host = HostOptions(limits=Limits(memory=64 << 20, cpu_shares=512))
    container = await rig.run("web", host=host)
    assert container.host.limits.memory_swap == 128 << 20
    await containers.update("web", Limits(cpu_shares=256), RestartPolicy("always"))
    limits = containers.get("web").host.limits
    assert (limits.cpu_shares, limits.memory) == (256, 64 << 20)
    assert rig.resources.limits[container.id] == Limits(cpu_shares=256)
    assert containers.get("web").host.restart.name == "always"
    with pytest.raises(InvalidRequest, match="Minimum memory limit allowed is 6MB"):
        await containers.update("web", Limits(memory=1))
    with pytest.raises(InvalidRequest, match="smaller than already set memoryswap limit"):
        await containers.update("web", Limits(memory=256 << 20))
    await containers.update("web", Limits(memory=256 << 20, memory_swap=512 << 20))
    assert containers.get("web").host.limits.memory == 256 << 20
    # As much memory as it has already goes with a new limit of swap alone.
    await containers.update("web", Limits(memory_swap=1 << 30))
    assert containers.get("web").host.limits.memory_swap == 1 << 30


_NO_SWAP_LIMIT = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory "
    "limited without swap."
)


def test_memory_is_limited_where_swap_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap limit that only follows from one of memory is left away, with Docker's warning."""
    without = FakeResources.capabilities - {ResourceCapability.SWAP}
    monkeypatch.setattr(FakeResources, "available", lambda _: without)

    async def main() -> None:
        rig = Rig(tmp_path)
        async with asyncio.timeout(60), rig.running():
            containers = rig.engine.containers
            for limits, swap, warnings in (
                (Limits(memory=64 << 20), -1, (_NO_SWAP_LIMIT,)),
                (Limits(memory=64 << 20, memory_swap=-1), -1, ()),
                # What was asked for stays, for the driver to refuse.
                (Limits(memory=64 << 20, memory_swap=96 << 20), 96 << 20, ()),
                (Limits(pids=5), None, ()),
            ):
                options = CreateOptions(ContainerConfig(image="small"), HostOptions(limits=limits))
                result = await containers.create(options)
                assert result.container.host.limits.memory_swap == swap
                assert result.warnings == warnings
            container = await rig.run("web")
            assert await containers.update("web", Limits(memory=64 << 20)) == (_NO_SWAP_LIMIT,)
            wanted = Limits(memory=64 << 20, memory_swap=-1)
            assert rig.resources.limits[container.id] == wanted
            assert containers.get("web").host.limits == wanted
            assert await containers.update("web", Limits(memory=128 << 20)) == ()
            assert containers.get("web").host.limits.memory_swap == -1

    asyncio.run(main())


@engine_test
async def test_a_number_of_cpus_and_a_quota_exclude_each_other(rig: Rig) -> None:
    """Whichever a container was given first stays its own way, in Docker's words."""
    containers = rig.engine.containers
    half = Limits(cpu_quota=50_000, cpu_period=100_000)
    await rig.create("cpus", host=HostOptions(limits=half, by_cpus=True))
    await rig.create("quota", host=HostOptions(limits=half))
    for name, limits, said in (
        ("cpus", Limits(cpu_quota=20_000), "CPU Quota cannot be updated as NanoCPUs has"),
        ("cpus", Limits(cpu_period=50_000), "CPU Period cannot be updated as NanoCPUs has"),
        ("quota", half, "Nano CPUs cannot be updated as CPU Quota has already been set"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            await containers.update(name, limits, by_cpus=name == "quota")
    await containers.update("cpus", Limits(cpu_quota=70_000, cpu_period=100_000), by_cpus=True)
    await containers.update("quota", Limits(cpu_quota=20_000))
    found = [containers.get(name).host for name in ("cpus", "quota")]
    assert [(host.limits.cpu_quota, host.by_cpus) for host in found] == [
        (70_000, True),
        (20_000, False),
    ]


@engine_test
async def test_lists(rig: Rig) -> None:
    """A list shows the running ones, newest first; filters are Docker's."""
    containers = rig.engine.containers
    config = ContainerConfig(labels={"tier": "front"}, exposed_ports=("80/tcp",))
    await rig.create("first")
    await rig.run("web", config=config, host=HostOptions(ports=(PortRequest(80),)))
    await rig.run("db")

    def names(**filters: str) -> list[str]:
        query = ContainerQuery(all=True, filters={key: (item,) for key, item in filters.items()})
        return [container.name for container in containers.list(query)]

    assert [item.name for item in containers.list(ContainerQuery())] == ["db", "web"]
    assert [item.name for item in containers.list(ContainerQuery(limit=1))] == ["db"]
    assert names() == ["db", "web", "first"]
    for pattern in ("^web$", "^/web$", "/we", "w.b", "(?i)WEB"):
        assert names(name=pattern) == ["web"]
    assert names(name="(") == names(name="^(w+e*b*)+!$") == []
    assert names(status="created") == ["first"]
    assert names(label="tier") == names(label="tier=front") == ["web"]
    assert names(label="tier=back") == []
    assert names(name="^d") == ["db"]
    assert names(before="db") == ["web", "first"]
    assert names(since="first") == ["db", "web"]
    assert names(publish="80") == names(expose="80/tcp") == ["web"]
    assert names(network="bridge") == ["db", "web", "first"]
    assert names(ancestor="small") == names(ancestor="small:latest") == ["db", "web", "first"]
    assert names(ancestor="other") == []
    with pytest.raises(InvalidRequest, match="invalid filter 'colour'"):
        names(colour="red")
    with pytest.raises(InvalidRequest, match="status=flying"):
        names(status="flying")


@engine_test
async def test_prune_removes_the_stopped_ones(rig: Rig) -> None:
    """Running containers stay; filters choose among the others."""
    keep = await rig.run("keep")
    await rig.create("old", config=ContainerConfig(labels={"stay": ""}))
    gone = await rig.create("gone")
    with pytest.raises(InvalidRequest, match="more than one until filter specified"):
        await rig.engine.containers.prune({"until": ("1h", "2h")})
    result = await rig.engine.containers.prune({"label!": ("stay",)})
    assert result.deleted == (gone.id,)
    assert result.reclaimed == 100
    result = await rig.engine.containers.prune({})
    assert len(result.deleted) == 1
    assert [live.container.id for live in rig.engine._registry] == [keep.id]


@engine_test
async def test_a_client_that_goes_away_does_not_break_a_start(rig: Rig) -> None:
    """A cancelled request's start goes on to its end, under the lock."""
    container = await rig.create("web")
    request = asyncio.ensure_future(rig.engine.containers.start("web"))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await eventually(lambda: rig.status("web") is Status.RUNNING)
    await rig.ended(container)


@engine_test
async def test_explain_plans_everything_and_does_nothing(rig: Rig) -> None:
    """Every driver's steps are there, in order; nothing is made, not even a name."""
    options = _options()
    before = (set(rig.world.held), rig.world.count, descriptors_open())
    steps = await rig.engine.containers.explain(options)
    kinds = list(dict.fromkeys(step.kind for step in steps))
    assert kinds == ["storage", "engine", "resources", "runtime", "network"]
    assert steps[-1].step.action == "execute"
    assert before == (set(rig.world.held), rig.world.count, descriptors_open())
    assert len(rig.engine._registry) == 0
    assert rig.engine.volumes.list({}) == []


def _options() -> CreateOptions:
    mounts = (MountSpec(MountKind.VOLUME, "/data", "box"), MountSpec(MountKind.VOLUME, "/anon"))
    host = HostOptions(mounts=mounts, ports=(PortRequest(80),))
    return CreateOptions(ContainerConfig(image="small", working_dir="/srv"), host, name="planned")


@engine_test
async def test_a_trace_has_the_steps_with_their_times(rig: Rig) -> None:
    """A traced start keeps what was done, by which driver, from when to when."""
    await rig.create("web")
    await rig.engine.containers.start("web", trace=True)
    steps = rig.engine.containers.trace("web")
    assert {driver for driver, _ in steps} == {"engine", "fake", "bridge"}
    assert all(timing.begin <= timing.end for _, timing in steps)
    times = [timing.begin for _, timing in steps]
    assert times == sorted(times)


@engine_test
async def test_a_trace_outlives_its_container_for_a_while(rig: Rig) -> None:
    """By its id it is found after the removal, until 32 others were kept."""
    containers = rig.engine.containers
    first = (await rig.create("first")).id
    await containers.start("first", trace=True)
    kept = containers.trace("first")
    await containers.remove("first", force=True)
    assert containers.trace(first) == kept
    with pytest.raises(NotFound):
        containers.trace("first")
    for number in range(32):
        await rig.create(f"c{number}")
        await containers.start(f"c{number}", trace=True)
    with pytest.raises(NotFound):
        containers.trace(first)
