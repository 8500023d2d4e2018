"""The engine killed at any moment: the next one agrees with disk and kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from pannier.engine.model import Status
from pannier.errors import PannierError
from support.engine_rig import chunks
from support.images import busybox_archive
from support.isolation import Place, fresh_place, in_new_network

if TYPE_CHECKING:
    from pannier.engine.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.slow]

ROUNDS = 8


class _Ledger:
    """What killed engines acknowledged."""

    def __init__(self) -> None:
        self.created: set[str] = set()
        self.started: set[str] = set()
        self.removing: set[str] = set()
        self.removed: set[str] = set()

    def note(self, output: str) -> None:
        sets = {
            "create": self.created,
            "start": self.started,
            "removing": self.removing,
            "remove": self.removed,
        }
        for line in output.split("\n")[:-1]:
            word, _, id = line.partition(" ")
            if word in sets:
                sets[word].add(id)


async def _killed(place: Place, lines: int, seconds: float) -> str:
    """Run a busy engine, kill it some *seconds* after it has said *lines*, return all it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).parents[2] / "support/busy_engine.py"),
        str(place.folder),
        place.parent,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    ready = await process.stdout.readline()
    assert ready == b"ready \n"
    output = b"".join([await process.stdout.readline() for _ in range(lines)])
    await asyncio.sleep(seconds)
    process.kill()
    output += await process.stdout.read()
    await process.wait()
    return output.decode()


def _check(engine: Engine, place: Place, ledger: _Ledger) -> None:
    lives = {live.container.id: live.container for live in engine._registry}
    # All that was acknowledged, and nothing that was removed.
    assert ledger.created - ledger.removing <= lives.keys()
    assert not ledger.removed & lives.keys()
    running = {id for id, container in lives.items() if container.state.running}
    # Those that were left to sleep still do.
    assert all(
        lives[id].state.status is Status.RUNNING
        for id in ledger.started - ledger.removing
        if lives[id].args[0] == "sleep"
    )
    drivers = engine.drivers
    assert set(drivers.storage.containers()) == lives.keys()
    assert set(drivers.resources.groups()) == running
    assert set(drivers.runtimes["native"].containers()) == running
    folder = place.folder / "root/containers"
    assert {path.name for path in folder.iterdir()} == lives.keys()
    mounted = {point.name for container in lives.values() for point in container.mounts}
    assert mounted <= {volume.name for volume in engine.volumes.list({})}
    for id in running:
        os.kill(lives[id].state.pid, 0)


def _links() -> int:
    """Return how many links of containers there are in this network namespace."""
    with IPRoute() as route:
        return sum(1 for link in route.get_links() if link.get_attr("IFLA_MASTER"))


def test_killed_at_any_moment() -> None:
    """After each kill everything acknowledged is there, and nothing else is."""

    async def rounds(place: Place, ledger: _Ledger) -> None:
        async with place.engine() as engine:
            async for _ in engine.images.load(chunks(busybox_archive())):
                pass
        for _ in range(ROUNDS):
            lines, seconds = random.randint(1, 60), random.uniform(0, 0.1)
            ledger.note(await _killed(place, lines, seconds))
            async with place.engine() as engine:
                # Exits that came meanwhile are handled in the background.
                await engine._workers.idle()
                _check(engine, place, ledger)
        assert ledger.created
        assert ledger.removed

    async def main() -> None:
        with fresh_place() as place:
            ledger = _Ledger()
            try:
                await rounds(place, ledger)
            finally:
                async with place.engine() as engine:
                    for live in list(engine._registry):
                        with contextlib.suppress(PannierError):
                            await engine.containers.remove(
                                live.container.id, force=True, volumes=True
                            )
                    await engine._workers.idle()
                    assert list(engine.drivers.resources.groups()) == []
                    async with asyncio.timeout(60):
                        while await asyncio.to_thread(_links):  # noqa: ASYNC110 - sets no event
                            await asyncio.sleep(0.05)

    in_new_network(main)
