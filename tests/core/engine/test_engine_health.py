"""Health checks: when a container is probed, and what the results make of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pannier.engine import healthstate
from pannier.engine.health import MOST_OUTPUT, ProbeOutput, go_duration
from pannier.engine.healthstate import Health, HealthResult, HealthStatus
from pannier.engine.model import ContainerConfig, HealthCheck, Status
from pannier.engine.results import ContainerQuery
from pannier.errors import InvalidRequest, StartFailed
from support.engine_rig import Rig, engine_test, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.engine.model import Container

MS = 10**6
SECOND = 10**9
CHECK = HealthCheck(("CMD", "probe", "-x"), interval=MS, timeout=5 * SECOND, retries=2)


def _config(check: HealthCheck = CHECK) -> ContainerConfig:
    return ContainerConfig(health_check=check)


def _health(rig: Rig, ref: str = "web") -> Health:
    health = rig.engine.containers.get(ref).state.health
    assert health is not None
    return health


async def _run(rig: Rig, check: HealthCheck = CHECK) -> Container:
    return await rig.run("web", config=_config(check))


# The rules, without an engine.


def _result(code: int, start: int = 100 * SECOND) -> HealthResult:
    return HealthResult(start, start + MS, code, "")


def test_the_defaults_are_dockers() -> None:
    """Thirty seconds between probes and for each, three failures; five seconds at the start."""
    check = healthstate.check_of(HealthCheck(("CMD", "x")))
    assert check is not None
    assert (check.interval, check.timeout, check.retries) == (30 * SECOND, 30 * SECOND, 3)
    assert (check.start_period, check.start_interval) == (0, 5 * SECOND)


@pytest.mark.parametrize("check", [None, HealthCheck(), HealthCheck(("NONE",), interval=1)])
def test_nothing_to_probe(check: HealthCheck | None) -> None:
    """No check, an empty one and NONE leave a container without health."""
    assert healthstate.check_of(check) is None
    assert healthstate.started(check, None) is None


def test_failures_count_up_to_unhealthy_and_one_success_ends_them() -> None:
    """The status changes with the retries' last failure, and back at once."""
    check = HealthCheck(("CMD", "x"), retries=2)
    health = healthstate.recorded(Health(), check, _result(1), 0)
    assert (health.status, health.failing_streak) == (HealthStatus.STARTING, 1)
    health = healthstate.recorded(health, check, _result(1), 0)
    assert (health.status, health.failing_streak) == (HealthStatus.UNHEALTHY, 2)
    health = healthstate.recorded(health, check, _result(0), 0)
    assert (health.status, health.failing_streak) == (HealthStatus.HEALTHY, 0)


def test_the_start_period_forgives() -> None:
    """Within it failures do not count while the container is starting, and probes are quicker."""
    check = HealthCheck(
        ("CMD", "x"), interval=9 * SECOND, retries=1, start_period=SECOND, start_interval=MS
    )
    began = 100 * SECOND
    health = healthstate.recorded(Health(), check, _result(1, began + 1), began)
    assert (health.status, health.failing_streak) == (HealthStatus.STARTING, 0)
    assert healthstate.delay(health, check, began, began + 1) == MS
    assert healthstate.delay(health, check, began, began + SECOND) == 9 * SECOND
    healthy = healthstate.recorded(health, check, _result(0, began + 2), began)
    assert healthstate.delay(healthy, check, began, began + 2) == 9 * SECOND
    failed = healthstate.recorded(healthy, check, _result(1, began + 3), began)
    assert failed.status is HealthStatus.UNHEALTHY


def test_the_log_keeps_the_last_five() -> None:
    """Older results go; how many there were is known all the same."""
    health = Health()
    for code in range(7):
        health = healthstate.recorded(health, CHECK, _result(code), 0)
    assert [item.exit_code for item in health.log] == [2, 3, 4, 5, 6]
    assert health.probes == 7


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1_500_000_000, "1.5s"),
        (250 * MS, "250ms"),
        (1_500, "1.5µs"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
        (30 * SECOND, "30s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    """Scripts look for the text of a timeout."""
    assert go_duration(nanoseconds) == text


@pytest.mark.parametrize("piece", [1, 3, 7, 100_000])
def test_output_is_taken_out_of_its_frames(piece: int) -> None:
    """Whatever the pieces it comes in; both streams, in their order, cut at 4096 bytes."""
    frames = b"".join(
        bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data
        for stream, data in ((1, b"one "), (2, b"two "), (1, b"x" * 5000))
    )
    output = ProbeOutput()
    for start in range(0, len(frames), piece):
        output.feed(frames[start : start + piece])
    assert output.text() == "one two " + "x" * (MOST_OUTPUT - 8) + "..."


# The engine.


@engine_test
async def test_a_container_becomes_healthy(rig: Rig) -> None:
    """Its first probe that succeeds is told in an event, and shows in lists and the log."""
    rig.runtime.exec_says, rig.runtime.exec_exits = b"fine\n", 0
    await _run(rig)
    assert _health(rig) == Health()
    await eventually(lambda: _health(rig).status is HealthStatus.HEALTHY)
    health = _health(rig)
    assert (health.log[0].exit_code, health.log[0].output) == (0, "fine\n")
    assert health.log[0].start <= health.log[0].end
    await eventually(lambda: "health_status: healthy" in rig.actions())
    actions = [item for item in rig.actions() if item.startswith(("exec", "health"))]
    assert actions[:4] == [
        "exec_create: probe -x",
        "exec_start: probe -x",
        "exec_die",
        "health_status: healthy",
    ]
    query = ContainerQuery(filters={"health": ("healthy",)})
    assert [item.name for item in rig.engine.containers.list(query)] == ["web"]
    assert rig.engine.containers.list(ContainerQuery(filters={"health": ("none",)})) == []
    with pytest.raises(InvalidRequest, match="Unrecognised filter value for health: ill"):
        rig.engine.containers.list(ContainerQuery(filters={"health": ("ill",)}))


@engine_test
async def test_probes_go_on_and_leave_nothing(rig: Rig) -> None:
    """Every one is a fresh exec; those that have ended are not kept."""
    rig.runtime.exec_exits = 0
    await _run(rig)
    await eventually(lambda: len(rig.runtime.exec_requests) >= 5)
    ids = [item.exec_id for item in rig.runtime.exec_requests]
    assert len(set(ids)) == len(ids)
    rig.engine._health.halt(rig.live("web"))
    await eventually(lambda: not rig.engine.execs._sessions)
    assert not rig.live("web").execs
    assert rig.actions().count("health_status: healthy") == 1


@engine_test
async def test_a_container_becomes_unhealthy(rig: Rig) -> None:
    """After as many failures as it may have; a probe that cannot be run is one."""
    rig.runtime.exec_error = StartFailed("no such file: probe", errno=2)
    await _run(rig)
    await eventually(lambda: _health(rig).status is HealthStatus.UNHEALTHY)
    assert _health(rig).log[0].exit_code == -1
    assert "no such file" in _health(rig).log[0].output
    await eventually(lambda: "health_status: unhealthy" in rig.actions())


@engine_test
async def test_a_hung_probe_is_killed(rig: Rig) -> None:
    """At its timeout; the result says so in Docker's words."""
    await _run(rig, replace(CHECK, timeout=2 * MS))
    await eventually(lambda: _health(rig).log)
    result = _health(rig).log[0]
    assert (result.exit_code, result.output) == (-1, "Health check exceeded timeout (2ms)")
    first = rig.runtime.exec_requests[0].exec_id
    await eventually(lambda: (first, 9) in rig.runtime.signals)


@engine_test
async def test_a_paused_container_is_not_probed(rig: Rig) -> None:
    """It counts as unhealthy, as with Docker, until a probe after the pause says otherwise."""
    rig.runtime.exec_exits = 0
    await _run(rig)
    await eventually(lambda: _health(rig).status is HealthStatus.HEALTHY)
    await rig.engine.containers.pause("web")
    assert _health(rig).status is HealthStatus.UNHEALTHY
    assert not rig.engine._health._due
    count = len(rig.runtime.exec_requests)
    await rig.engine.containers.unpause("web")
    await eventually(lambda: _health(rig).status is HealthStatus.HEALTHY)
    assert len(rig.runtime.exec_requests) > count


@engine_test
async def test_a_stopped_container_is_not_probed(rig: Rig) -> None:
    """Its log stays, and a start begins anew with it."""
    rig.runtime.exec_exits = 0
    container = await _run(rig)
    await eventually(lambda: _health(rig).status is HealthStatus.HEALTHY)
    await rig.ended(container, 0)
    assert _health(rig).status is HealthStatus.UNHEALTHY
    assert _health(rig).log
    assert not rig.engine._health._due
    rig.runtime.exec_exits = None
    await rig.engine.containers.start("web")
    assert _health(rig).status is HealthStatus.STARTING
    assert _health(rig).log


@engine_test
async def test_an_exit_during_a_probe_drops_it(rig: Rig) -> None:
    """Nothing of it is recorded, and nothing is left."""
    container = await _run(rig)
    await eventually(lambda: rig.runtime.exec_requests)
    await rig.ended(container, 0)
    await eventually(lambda: not rig.engine.execs._sessions)
    assert _health(rig).log == ()


@engine_test
async def test_the_images_shell_runs_a_line(rig: Rig) -> None:
    """CMD-SHELL takes the shell of the image, or /bin/sh."""
    line = HealthCheck(("CMD-SHELL", "a && b"), interval=MS)
    rig.runtime.exec_exits = 0
    await rig.run("one", config=_config(line))
    await rig.run("two", config=replace(_config(line), shell=("/bin/bash", "-ec")))
    await eventually(lambda: len(rig.runtime.exec_requests) > 3)
    commands = {tuple(item.process["args"]) for item in rig.runtime.exec_requests}
    assert commands == {("/bin/sh", "-c", "a && b"), ("/bin/bash", "-ec", "a && b")}


def test_health_goes_on_with_the_next_engine(tmp_path: Path) -> None:
    """What was known is kept, probing goes on, and the probe that was under way is ended."""

    async def main() -> None:
        rig = Rig(tmp_path)
        rig.runtime.exec_exits = 0
        async with rig.running():
            await _run(rig)
            await eventually(lambda: _health(rig).status is HealthStatus.HEALTHY)
            rig.runtime.exec_exits = None
            count = len(rig.runtime.exec_requests)
            await eventually(lambda: len(rig.runtime.exec_requests) > count)
            before, hung = _health(rig), rig.runtime.exec_requests[-1].exec_id
        rig.runtime.signals.clear()
        rig.runtime.exec_exits = 1
        async with rig.running():
            assert rig.status("web") is Status.RUNNING
            # It may have probed already.
            assert _health(rig).log[: len(before.log)] == before.log
            await eventually(lambda: (hung, 9) in rig.runtime.signals)
            await eventually(lambda: _health(rig).status is HealthStatus.UNHEALTHY)

    asyncio.run(main())


@engine_test
async def test_three_hundred_containers_are_cheap(rig: Rig) -> None:
    """Between probes each has one timer, and no task or thread."""
    check = replace(CHECK, interval=3600 * SECOND)
    config = replace(_config(check), image="small")
    tasks = len(asyncio.all_tasks())
    for number in range(300):
        await rig.run(f"web-{number}", config=config)
    due = rig.engine._health._due
    assert len(due) == 300
    assert all(isinstance(item, asyncio.TimerHandle) for item in due.values())
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)
