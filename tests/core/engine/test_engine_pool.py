"""The pool of threads: calls that hang keep their thread, and nothing else."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from typing import TYPE_CHECKING, ParamSpec

import pytest

from pannier.drivers.operations import Action, Plan, Step, Transaction
from pannier.engine import pool as pool_module
from pannier.engine.pool import Pool
from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

P = ParamSpec("P")


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Return a pool of two threads."""
    made = Pool(2, "test")
    yield made
    made.close(10)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return an event that calls may hang on; set at the end, so that none is left."""
    event = threading.Event()
    yield event
    event.set()


def in_loop(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return wrapper


def fail() -> None:
    """Raise what a driver may raise."""
    raise KeyError("gone")


def end_iteration() -> None:
    """Raise what no future takes."""
    raise StopIteration


@in_loop
async def test_answers_and_errors_come_back(pool: Pool) -> None:
    """Each where it is waited for."""
    assert await asyncio.gather(*(pool.call(functools.partial(int, n)) for n in range(50))) == [
        *range(50)
    ]
    with pytest.raises(KeyError, match="gone"):
        await pool.call(fail)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.call(end_iteration)


@in_loop
async def test_a_call_that_hangs_is_given_up(
    pool: Pool, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller is told where it hangs, and so is the log."""
    with caplog.at_level(logging.WARNING), pytest.raises(DriverError) as caught:
        await pool.call(gate.wait, patience=0.2)
    assert "did not answer within 0 s" in caught.value.message
    assert "threading.py" in caught.value.message
    assert "in wait" in caplog.text


@in_loop
async def test_others_get_threads_in_place_of_those_that_hang(
    pool: Pool, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many hang, the next call is made."""
    monkeypatch.setattr(pool_module, "_SLOW", 0.05)
    hanging = [asyncio.ensure_future(pool.call(gate.wait)) for _ in range(10)]
    assert await asyncio.wait_for(pool.call(lambda: "made"), 30) == "made"
    gate.set()
    assert await asyncio.gather(*hanging) == [True] * 10


@in_loop
async def test_what_was_given_up_before_it_began_is_not_done(
    pool: Pool, gate: threading.Event
) -> None:
    """Its caller was told that it failed: it must not happen afterwards."""
    hanging = [asyncio.ensure_future(pool.call(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)  # they are begun before the next call
    done: list[str] = []
    with pytest.raises(DriverError, match="not begun"):
        await pool.call(lambda: done.append("late"), patience=0.2)
    gate.set()
    await asyncio.gather(*hanging)
    await asyncio.gather(*(pool.call(lambda: None) for _ in range(4)))
    assert done == []


@in_loop
async def test_what_comes_back_too_late_is_undone(pool: Pool, gate: threading.Event) -> None:
    """A transaction does not go on when nobody waits for it any longer."""
    done: list[str] = []
    undone, rolled_back = threading.Event(), threading.Event()

    def undo() -> None:
        done.append("undo")
        rolled_back.set()

    def act(name: str) -> Action:
        return Action(Step("do", name), lambda: done.append(name), undo)

    def run() -> None:
        hang = Action(Step("do", "hang"), gate.wait, undone.set)
        Transaction().run(Plan("x", [act("first"), hang, act("never")], lambda: None))

    with pytest.raises(DriverError, match="did not answer"):
        await pool.call(run, patience=0.2)
    assert done == ["first"]
    gate.set()
    assert await asyncio.to_thread(undone.wait, 30)
    assert await asyncio.to_thread(rolled_back.wait, 30)
    assert done == ["first", "undo"]


@in_loop
async def test_the_end_does_not_wait_for_what_hangs(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon ends although a driver does not answer."""
    pool = Pool(2, "test")
    hanging = asyncio.ensure_future(pool.call(gate.wait))
    await pool.call(lambda: None)
    with caplog.at_level(logging.WARNING):
        pool.close(0.1)
    assert "ended without waiting for test_" in caplog.text
    gate.set()
    assert await hanging is True
