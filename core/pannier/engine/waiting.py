"""Waiting for a container to stop or go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pannier.engine.model import Status
from pannier.engine.results import WaitResult

if TYPE_CHECKING:
    from pannier.engine.registry import Live
    from pannier.engine.results import WaitCondition

__all__ = ["register", "resolve"]


def register(live: Live, condition: WaitCondition) -> asyncio.Future[WaitResult]:
    """Register a wait, from this call on; the future may be cancelled."""
    future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
    state = live.container.state
    if condition == "not-running" and not state.running and state.status != Status.RESTARTING:
        future.set_result(WaitResult(state.exit_code, state.error))
    else:
        waiter = (condition, future)
        live.waiters.append(waiter)
        future.add_done_callback(
            lambda _: live.waiters.remove(waiter) if waiter in live.waiters else None
        )
    return future


def resolve(live: Live, *, removed: bool = False) -> None:
    """Answer those who wait for a stop; with *removed* everyone."""
    state = live.container.state
    result = WaitResult(state.exit_code, state.error)
    waiters, live.waiters = live.waiters, []
    for condition, future in waiters:
        if future.done():
            continue
        if condition == "removed" and not removed:
            live.waiters.append((condition, future))
        else:
            future.set_result(result)
