"""An engine that makes containers without end, to be killed: ``busy_engine.py FOLDER PARENT``.

What was acknowledged is printed, a line each: ``create ID``, ``start ID``, ``remove ID``; before a
removal ``removing ID``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pannier.engine.model import (
    ContainerConfig,
    CreateOptions,
    HostOptions,
    MountKind,
    MountSpec,
)
from support.isolation import Place

MODES = ("bridge", "none", "bridge", "host")


async def main(folder: str, parent: str) -> None:
    """Make, start and remove containers, three at a time, until killed."""
    place = Place(Path(folder), parent)

    async def lives(worker: int) -> None:
        number = worker
        while True:
            number += 1
            mounts = (MountSpec(MountKind.VOLUME, "/anon"),) if number % 3 == 0 else ()
            host = HostOptions(network_mode=MODES[number % 4], mounts=mounts)
            command = ("sleep", "600") if number % 2 else ("true",)
            options = CreateOptions(ContainerConfig(image="busybox", cmd=command), host)
            id = (await engine.containers.create(options)).container.id
            _say("create", id)
            await engine.containers.start(id)
            _say("start", id)
            # Some are left behind, running or not.
            if number % 5:
                _say("removing", id)
                await engine.containers.remove(id, force=True, volumes=True)
                _say("remove", id)

    async with place.engine() as engine:
        _say("ready", "")
        await asyncio.gather(*(lives(worker) for worker in (0, 100, 200)))


def _say(what: str, id: str) -> None:
    sys.stdout.write(f"{what} {id}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
