"""A new engine takes over what an earlier one left, however that one ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import PortRequest
from pannier.engine.model import EndpointOptions, HostOptions, RestartPolicy, Status
from pannier.engine.portmoves import leaving
from pannier.engine.recovery import UNKNOWN_STATUS
from pannier.engine.wiring import Wiring, marked
from pannier.errors import DriverError
from support.engine_rig import Rig, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pannier.engine.model import Container


def _across(
    tmp_path: Path,
    before: Callable[[Rig], Awaitable[None]],
    meanwhile: Callable[[Rig], None],
    after: Callable[[Rig], Awaitable[None]],
) -> None:
    """Run two engines one after the other; the drivers' world goes on in between."""

    async def main() -> None:
        rig = Rig(tmp_path)
        async with asyncio.timeout(60):
            async with rig.running():
                await before(rig)
            meanwhile(rig)
            async with rig.running():
                await after(rig)

    asyncio.run(main())


def test_a_running_container_is_taken_over(tmp_path: Path) -> None:
    """It runs on, its endpoints are held, and its end is seen by the new engine."""

    async def before(rig: Rig) -> None:
        await rig.run("web", host=HostOptions(ports=(PortRequest(80),)))

    async def after(rig: Rig) -> None:
        container = rig.engine.containers.get("web")
        assert container.state.status is Status.RUNNING
        assert rig.bridge.reconciled is not None
        [(request, endpoint)] = rig.bridge.reconciled
        assert request.container == container.id
        assert request.ports == (PortRequest(80),)
        assert endpoint == container.endpoints["bridge"]
        await rig.ended(container, 3)
        assert rig.engine.containers.get("web").state.exit_code == 3
        assert rig.world.held == {f"layer:{container.id}"}

    _across(tmp_path, before, lambda _: None, after)


def test_an_exit_meanwhile_is_known(tmp_path: Path) -> None:
    """The runtime kept the status; the new engine clears away what the container had."""

    async def before(rig: Rig) -> None:
        await rig.run("web")

    def meanwhile(rig: Rig) -> None:
        rig.runtime.end(next(rig.runtime.containers()), 9)

    async def after(rig: Rig) -> None:
        await eventually(lambda: rig.status("web") is Status.EXITED)
        container = rig.engine.containers.get("web")
        assert (container.state.exit_code, container.state.error) == (9, "")
        assert container.state.finished == int(1234.5e9)
        await eventually(lambda: rig.world.held == {f"layer:{container.id}"})

    _across(tmp_path, before, meanwhile, after)


def test_a_container_of_which_nothing_is_left(tmp_path: Path) -> None:
    """After a reboot the runtime knows nothing: the container has ended, with an error."""

    async def before(rig: Rig) -> None:
        await rig.run("web")
        await rig.run("again", host=HostOptions(restart=RestartPolicy("unless-stopped")))

    def meanwhile(rig: Rig) -> None:
        for id in list(rig.runtime.containers()):
            rig.runtime.delete(id)
        rig.world.held = {name for name in rig.world.held if name.startswith("layer:")}

    async def after(rig: Rig) -> None:
        state = rig.engine.containers.get("web").state
        assert (state.status, state.exit_code) == (Status.EXITED, UNKNOWN_STATUS)
        assert "lost" in state.error
        await eventually(lambda: rig.status("again") is Status.RUNNING)

    _across(tmp_path, before, meanwhile, after)


def test_what_nobody_acknowledged_is_cleared_away(tmp_path: Path) -> None:
    """Starts and creations that were cut short leave nothing, whatever they had done."""
    created: list[Container] = []

    async def before(rig: Rig) -> None:
        created.append(await rig.create("web"))

    def meanwhile(rig: Rig) -> None:
        # As if killed in the middle of web's start, and of the creation of another.
        rig.runtime.status[created[0].id] = "running"
        rig.runtime.status["f" * 64] = "created"
        rig.world.held |= {
            f"runtime:{created[0].id}",
            f"group:{created[0].id}",
            f"endpoint:bridge:{created[0].id}",
        }
        (rig.storage.roots / ("f" * 64)).mkdir()
        (rig.folder / "containers" / ("f" * 64)).mkdir()

    async def after(rig: Rig) -> None:
        assert rig.status("web") is Status.CREATED
        assert rig.world.held == {f"layer:{created[0].id}"}
        assert list(rig.runtime.containers()) == []
        assert list(rig.storage.containers()) == [created[0].id]
        assert [path.name for path in (rig.folder / "containers").iterdir()] == [created[0].id]
        await rig.engine.containers.start("web")

    _across(tmp_path, before, meanwhile, after)


def test_groups_of_others_are_left_alone(tmp_path: Path) -> None:
    """What is beside the containers' groups is an administrator's, or another engine's."""
    foreign = {"group:web", "group:" + "f" * 64, "group:sshd.service"}

    async def before(rig: Rig) -> None:
        container = await rig.run("web", host=HostOptions(cgroup_parent="pannier/web"))
        assert f"group:pannier/web/{container.id}" in rig.world.held

    def meanwhile(rig: Rig) -> None:
        rig.world.held |= foreign

    async def after(rig: Rig) -> None:
        assert foreign <= rig.world.held
        assert rig.status("web") is Status.RUNNING

    _across(tmp_path, before, meanwhile, after)


def test_a_group_below_a_parent_of_its_own_is_cleared_away(tmp_path: Path) -> None:
    """A start that was cut short leaves none, wherever it was to be; others there stay."""

    async def before(rig: Rig) -> None:
        await rig.create("web", host=HostOptions(cgroup_parent="front/web"))

    def meanwhile(rig: Rig) -> None:
        [id] = rig.storage.containers()
        rig.world.held |= {f"group:front/web/{id}", "group:front/web/other"}

    async def after(rig: Rig) -> None:
        left = {name for name in rig.world.held if name.startswith("group:")}
        assert left == {"group:front/web/other"}

    _across(tmp_path, before, meanwhile, after)


def test_an_exit_that_was_noted_but_not_cleared(tmp_path: Path) -> None:
    """A kill between the two leaves a stopped container's group and process to the next start."""

    async def before(rig: Rig) -> None:
        container = await rig.run("web")
        await rig.ended(container, 4)

    def meanwhile(rig: Rig) -> None:
        [id] = rig.storage.containers()
        rig.runtime.status[id] = "created"
        rig.runtime.end(id, 4)
        rig.world.held |= {f"runtime:{id}", f"group:{id}", f"endpoint:bridge:{id}"}

    async def after(rig: Rig) -> None:
        container = rig.engine.containers.get("web")
        assert container.state.exit_code == 4
        assert rig.world.held == {f"layer:{container.id}"}

    _across(tmp_path, before, meanwhile, after)


def test_one_that_was_never_let_go_is_no_running_container(tmp_path: Path) -> None:
    """The runtime still holds its process back: it counts as lost and is removed there."""

    async def before(rig: Rig) -> None:
        await rig.run("web")

    def meanwhile(rig: Rig) -> None:
        [id] = rig.runtime.containers()
        rig.runtime.status[id] = "created"

    async def after(rig: Rig) -> None:
        assert rig.status("web") is Status.EXITED
        assert list(rig.runtime.containers()) == []

    _across(tmp_path, before, meanwhile, after)


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("gone", [False, True])
def test_a_restart_that_was_cut_is_finished(ended: bool, gone: bool, tmp_path: Path) -> None:
    """A killed engine may have stopped the container already, whose policy has it not run again."""

    async def before(rig: Rig) -> None:
        container = await rig.run("web", host=HostOptions(auto_remove=True))
        asked = replace(container.state, restart_asked=True, manually_stopped=True)
        rig.engine.containers.store.save_state(replace(container, state=asked))

    def meanwhile(rig: Rig) -> None:
        [id] = rig.runtime.containers()
        if ended:
            rig.runtime.end(id, 137)
        if gone:
            rig.runtime.delete(id)
            rig.world.held = {name for name in rig.world.held if name.startswith("layer:")}

    async def after(rig: Rig) -> None:
        await eventually(lambda: rig.actions()[-1:] == ["restart"])
        assert rig.status("web") is Status.RUNNING
        [stored] = rig.engine.containers.store.containers()
        assert not stored.state.restart_asked

    _across(tmp_path, before, meanwhile, after)


@pytest.mark.parametrize("rewiring", [False, True])
def test_a_network_that_was_being_left(
    rewiring: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Route and hosts file are put right then, and only then: else they are the container's own."""
    moved: list[str] = []
    monkeypatch.setattr(
        Wiring, "lead_out", lambda _, container: moved.extend(container.endpoints), raising=True
    )

    async def before(rig: Rig) -> None:
        await rig.engine.networks.create("lan")
        container = await rig.run("web")
        await rig.engine.networks.connect("lan", "web", EndpointOptions(address="172.19.0.9"))
        container = rig.engine.containers.get("web")
        left = replace(
            container,
            networks={"bridge": container.networks["bridge"]},
            endpoints={"bridge": container.endpoints["bridge"]},
        )
        rig.engine.containers.store.save(marked(left, rewiring=rewiring))
        moved.clear()

    async def after(rig: Rig) -> None:
        container = rig.engine.containers.get("web")
        hosts = (rig.folder / "containers" / container.id / "hosts").read_text()
        assert ("172.19.0.9" in hosts, moved) == (False, ["bridge"]) if rewiring else (True, [])
        [stored] = rig.engine.containers.store.containers()
        assert not stored.state.rewiring
        assert not container.state.rewiring

    _across(tmp_path, before, lambda _: None, after)


def test_ports_of_a_network_that_was_being_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are published where the way out is now, once, and known to be the container's own."""
    # The fake container's network namespace is the test's own.
    monkeypatch.setattr(Wiring, "lead_out", lambda *_: None)

    async def before(rig: Rig) -> None:
        await rig.engine.networks.create("alpha")  # which leads out, being the first by name
        await rig.run("web", host=HostOptions(ports=(PortRequest(80),)))
        await rig.engine.networks.connect("alpha", "web", EndpointOptions())
        container = rig.engine.containers.get("web")
        assert container.endpoints["alpha"].ports
        rig.engine.containers.store.save(marked(leaving(container, "alpha")))

    async def after(rig: Rig) -> None:
        container = rig.engine.containers.get("web")
        assert {name: len(one.ports) for name, one in container.endpoints.items()} == {"bridge": 1}
        assert rig.bridge.asked[-1].held == container.endpoints["bridge"].ports
        assert list(rig.engine.containers.store.containers()) == [container]
        assert not container.state.rewiring
        asked = len(rig.bridge.asked)
        container, kept = rig.engine.networks.connecting.wiring.settle(container, (), route=True)
        assert (len(rig.bridge.asked), kept) == (asked, ()), "nothing more is to be done"

    _across(tmp_path, before, lambda _: None, after)


def test_a_network_that_was_being_left_by_one_that_ended(tmp_path: Path) -> None:
    """There is nothing to put right any more, and the note goes with the end."""

    async def before(rig: Rig) -> None:
        container = await rig.run("web")
        rig.engine.containers.store.save(marked(container))

    def meanwhile(rig: Rig) -> None:
        rig.runtime.end(next(rig.runtime.containers()), 0)

    async def after(rig: Rig) -> None:
        await eventually(lambda: rig.status("web") is Status.EXITED)
        assert not rig.engine.containers.get("web").state.rewiring

    _across(tmp_path, before, meanwhile, after)


def test_what_cannot_be_put_right_stays_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine starts all the same, says which container it is, and a later one tries again."""

    def refuse(*_: object) -> None:
        raise DriverError("no route")

    monkeypatch.setattr(Wiring, "lead_out", refuse)

    async def before(rig: Rig) -> None:
        container = await rig.run("web")
        rig.engine.containers.store.save(marked(container))

    async def after(rig: Rig) -> None:
        assert rig.status("web") is Status.RUNNING
        assert rig.engine.containers.get("web").state.rewiring
        assert f"{rig.engine.containers.get('web').id[:12]}: its networks" in caplog.text

    _across(tmp_path, before, lambda _: None, after)


def test_a_restart_that_cannot_be_finished(tmp_path: Path) -> None:
    """The container is left as one that could not be started, and is not tried for ever."""

    async def before(rig: Rig) -> None:
        container = await rig.run("web")
        asked = replace(container.state, restart_asked=True)
        rig.engine.containers.store.save_state(replace(container, state=asked))

    def meanwhile(rig: Rig) -> None:
        [id] = rig.runtime.containers()
        rig.runtime.end(id, 0)
        rig.runtime.start_error = DriverError("no more pids")

    async def after(rig: Rig) -> None:
        await eventually(lambda: rig.engine.containers.get("web").state.error == "no more pids")
        await eventually(lambda: not rig.engine.containers.get("web").state.restart_asked)
        assert rig.status("web") is Status.EXITED

    _across(tmp_path, before, meanwhile, after)


@pytest.mark.parametrize(
    ("policy", "stopped", "status"),
    [
        ("no", False, Status.EXITED),
        ("always", True, Status.RUNNING),
        ("unless-stopped", True, Status.EXITED),
        ("unless-stopped", False, Status.RUNNING),
    ],
)
def test_policies_at_the_engines_start(
    policy: str, stopped: bool, status: Status, tmp_path: Path
) -> None:
    """Containers that ended are started again as Docker does at its start."""

    async def before(rig: Rig) -> None:
        host = HostOptions(restart=RestartPolicy(policy))
        await rig.run("web", host=host)
        if stopped:
            await rig.engine.containers.stop("web")

    def meanwhile(rig: Rig) -> None:
        for id in list(rig.runtime.containers()):
            rig.runtime.end(id, 0)

    async def after(rig: Rig) -> None:
        await eventually(lambda: rig.status("web") is status)

    _across(tmp_path, before, meanwhile, after)


def test_a_restart_to_come_survives(tmp_path: Path) -> None:
    """A container that was waiting for its restart gets it from the new engine."""

    async def before(rig: Rig) -> None:
        container = await rig.run("web", host=HostOptions(restart=RestartPolicy("always")))
        rig.live("web").backoff = 30.0
        await rig.ended(container, 1)
        assert rig.status("web") is Status.RESTARTING

    async def after(rig: Rig) -> None:
        await eventually(lambda: rig.status("web") is Status.RUNNING)

    _across(tmp_path, before, lambda _: None, after)


def test_rm_containers_that_ended_meanwhile_go(tmp_path: Path) -> None:
    """What was run with --rm is removed when its end is learned of."""

    async def before(rig: Rig) -> None:
        await rig.run("web", host=HostOptions(auto_remove=True))

    def meanwhile(rig: Rig) -> None:
        rig.runtime.end(next(rig.runtime.containers()), 0)

    async def after(rig: Rig) -> None:
        await eventually(lambda: len(rig.engine._registry) == 0)
        assert rig.world.held == set()

    _across(tmp_path, before, meanwhile, after)


def test_names_networks_and_volumes_survive(tmp_path: Path) -> None:
    """All that was acknowledged is found again as it was."""
    seen: list[object] = []

    async def before(rig: Rig) -> None:
        await rig.engine.networks.create("lan", labels={"a": "b"})
        await rig.engine.volumes.create("box")
        await rig.create("web", networks={})
        await rig.engine.containers.rename("web", "www")
        seen.append(
            (
                rig.engine.containers.get("www"),
                sorted(rig.engine.networks.list({}), key=lambda item: item.name),
                rig.engine.volumes.list({}),
            )
        )

    async def after(rig: Rig) -> None:
        assert seen == [
            (
                rig.engine.containers.get("www"),
                sorted(rig.engine.networks.list({}), key=lambda item: item.name),
                rig.engine.volumes.list({}),
            )
        ]
        # Each driver was told again of its networks.
        lan = rig.engine.networks.get("lan")
        assert rig.bridge.created.keys() == {"bridge", lan.id}

    _across(tmp_path, before, lambda _: None, after)


def _broken(*_: object) -> list[str]:
    """Be a stranger's code that fails."""
    raise KeyError("broken")


def test_drivers_that_fail_at_the_start_keep_nobody_from_going_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is raised: it is logged, what the others left is cleared, and the engine serves."""

    async def before(rig: Rig) -> None:
        await rig.run("web")

    def meanwhile(rig: Rig) -> None:
        (rig.storage.roots / ("f" * 64)).mkdir()
        broken: Any = _broken
        rig.resources.groups = broken  # type: ignore[method-assign]
        rig.bridge.reconcile = broken  # type: ignore[method-assign]
        rig.runtime.containers = broken  # type: ignore[method-assign]
        rig.storage.layers = broken  # type: ignore[method-assign]

    async def after(rig: Rig) -> None:
        assert rig.engine.containers.get("web").state.status is Status.RUNNING
        assert list(rig.storage.containers()) == [rig.engine.containers.get("web").id]
        await rig.run("another")

    _across(tmp_path, before, meanwhile, after)
    for what in ("process", "control group", "network driver bridge", "storage driver fake"):
        assert what in caplog.text
