"""Restart policies: who is started again, when, and who not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pannier.engine.model import ContainerState, HostOptions, RestartPolicy, Status
from pannier.engine.supervision import next_backoff, wants_restart
from pannier.errors import Conflict, DriverError, InvalidRequest
from support.engine_rig import Rig, engine_test, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.engine.model import Container


def test_the_pause_before_a_restart_doubles_and_is_reset() -> None:
    """From 100 ms it doubles up to a minute; after ten seconds of running it begins anew."""
    pauses, pause = [], 0.0
    for _ in range(12):
        pause = next_backoff(pause, 0.5)
        pauses.append(pause)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-2:] == [60.0, 60.0]
    assert next_backoff(60.0, 9.9) == 60.0
    assert next_backoff(60.0, 10.0) == 0.1


@pytest.mark.parametrize(
    ("policy", "state", "wanted"),
    [
        ("no", ContainerState(exit_code=1), False),
        ("always", ContainerState(exit_code=0), True),
        ("always", ContainerState(exit_code=0, restart_count=9, manually_stopped=True), True),
        ("unless-stopped", ContainerState(exit_code=0), True),
        ("unless-stopped", ContainerState(exit_code=1, manually_stopped=True), False),
        ("on-failure", ContainerState(exit_code=0), False),
        ("on-failure", ContainerState(exit_code=1), True),
        ("on-failure", ContainerState(exit_code=1, restart_count=2), True),
        ("on-failure:3", ContainerState(exit_code=1, restart_count=2), True),
        ("on-failure:3", ContainerState(exit_code=1, restart_count=3), False),
    ],
)
def test_policies(policy: str, state: ContainerState, wanted: bool, tmp_path: Path) -> None:
    """Whether a policy has a container started again, by how it ended and how often."""
    name, _, maximum = policy.partition(":")

    @engine_test
    async def check(rig: Rig) -> None:
        host = HostOptions(restart=RestartPolicy(name, int(maximum or 0)))
        assert wants_restart(await rig.create(host=host), state) is wanted

    check(tmp_path)


def _restart_now(rig: Rig, container: Container) -> None:
    live = rig.live(container.id)
    assert live.restart is not None
    live.restart.cancel()
    rig.engine._supervisor._restart_now(live)


@engine_test
async def test_a_container_is_started_again_and_counts(rig: Rig) -> None:
    """Each exit schedules a restart, a little later each time; the count shows in its state."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("on-failure", 2)))
    for pause in (0.1, 0.2):
        await rig.ended(container, 1)
        assert rig.status("web") is Status.RESTARTING
        live = rig.live("web")
        assert live.backoff == pause
        assert live.restart is not None
        assert live.restart.when() - asyncio.get_running_loop().time() <= pause
        _restart_now(rig, container)
        await eventually(lambda: rig.status("web") is Status.RUNNING)
    await rig.ended(container, 1)
    state = rig.engine.containers.get("web").state
    assert (state.status, state.restart_count, state.exit_code) == (Status.EXITED, 2, 1)


@engine_test
async def test_a_users_start_counts_anew(rig: Rig) -> None:
    """Tries that were used up are there again after a start, or restart, by a user."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("on-failure", 1)))
    for again in (rig.engine.containers.start, rig.engine.containers.restart):
        await rig.ended(container, 1)
        _restart_now(rig, container)
        await eventually(lambda: rig.status("web") is Status.RUNNING)
        await rig.ended(container, 1)
        assert rig.engine.containers.get("web").state.restart_count == 1
        assert rig.status("web") is Status.EXITED
        await again("web")
        assert rig.engine.containers.get("web").state.restart_count == 0


@engine_test
async def test_the_count_survives_the_engine(rig: Rig) -> None:
    """What is in the database has it, for the next engine to go on from."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("on-failure", 5)))
    await rig.ended(container, 1)
    [stored] = rig.engine.containers.store.containers()
    assert stored.state.restart_count == 1


@engine_test
async def test_a_restart_comes_by_itself(rig: Rig) -> None:
    """Nobody has to push: the timer starts the container."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("always")))
    await rig.ended(container, 0)
    await eventually(lambda: rig.status("web") is Status.RUNNING)
    assert rig.engine.containers.get("web").state.restart_count == 1


@engine_test
async def test_a_stopped_container_stays_stopped(rig: Rig) -> None:
    """A stop by a user ends even ``always``, until the next start."""
    await rig.run("web", host=HostOptions(restart=RestartPolicy("always")))
    await rig.engine.containers.stop("web")
    assert rig.status("web") is Status.EXITED
    assert rig.live("web").restart is None
    assert rig.engine.containers.get("web").state.manually_stopped


@engine_test
async def test_a_stop_between_restarts_ends_them(rig: Rig) -> None:
    """A container that waits for its restart can be stopped, and only removed by force."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("always")))
    await rig.ended(container, 1)
    with pytest.raises(Conflict, match="container is restarting"):
        await rig.engine.containers.remove("web")
    waiting = rig.engine.containers.wait("web", "not-running")
    await rig.engine.containers.stop("web")
    assert (await waiting).exit_code == 1
    assert rig.live("web").restart is None
    await rig.engine.containers.remove("web")


@engine_test
async def test_a_waiting_restart_is_removed_by_force(rig: Rig) -> None:
    """A forced removal cancels the timer."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("always")))
    await rig.ended(container, 1)
    await rig.engine.containers.remove("web", force=True)
    assert rig.world.held == set()


@engine_test
async def test_a_restart_that_fails_is_tried_again(rig: Rig) -> None:
    """What keeps a restart from coming off counts as one more try."""
    container = await rig.run("web", host=HostOptions(restart=RestartPolicy("on-failure", 2)))
    await rig.ended(container, 1)
    rig.runtime.start_error = DriverError("no more pids")
    _restart_now(rig, container)
    await eventually(lambda: rig.live("web").backoff == 0.2)
    state = rig.engine.containers.get("web").state
    assert (state.status, state.restart_count, state.error) == (
        Status.RESTARTING,
        2,
        "no more pids",
    )
    _restart_now(rig, container)
    await eventually(lambda: rig.status("web") is Status.EXITED)


@engine_test
async def test_restart_command_keeps_an_rm_container(rig: Rig) -> None:
    """``restart`` of a container that was run with --rm does not lose it."""
    await rig.run("web", host=HostOptions(auto_remove=True))
    await rig.engine.containers.restart("web")
    assert rig.status("web") is Status.RUNNING
    assert rig.actions()[-1] == "restart"


@engine_test
async def test_two_restarts_at_once(rig: Rig) -> None:
    """Both are done once the container runs anew; none is refused."""
    container = await rig.run("web")
    restart = rig.engine.containers.restart
    await asyncio.gather(restart("web"), restart("web"))
    assert rig.status("web") is Status.RUNNING
    assert rig.engine.containers.get("web").state.started > container.state.started


@engine_test
async def test_policies_that_make_no_sense(rig: Rig) -> None:
    """They are refused at creation, in Docker's words."""
    for policy, words in [
        (RestartPolicy("sometimes"), "invalid restart policy"),
        (RestartPolicy("always", 3), "maximum retry count can only be used with 'on-failure'"),
        (RestartPolicy("on-failure", -1), "cannot be negative"),
    ]:
        with pytest.raises(InvalidRequest, match=words):
            await rig.create(host=HostOptions(restart=policy))
    with pytest.raises(InvalidRequest, match="AutoRemove"):
        await rig.create(host=HostOptions(auto_remove=True, restart=RestartPolicy("always")))
