"""How cost grows: a start, an exec and a ps beside many running containers, against beside none."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import docker

from engines import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines import Engine

__all__ = ["measure_growth"]

_RUNS = 25


def measure_growth(engine: Engine, crowd: int) -> dict[str, tuple[float, float]]:
    """Return, for each work, its median seconds beside no and beside *crowd* containers."""
    client = docker.APIClient(base_url=engine.api, version="1.41", timeout=120)
    host = client.create_host_config(network_mode="none")
    alone = _measure(client, host)
    made = []
    for _ in range(crowd):
        one = client.create_container(IMAGE, ["sleep", "100000"], host_config=host)
        client.start(one)
        made.append(one)
    crowded = _measure(client, host)
    for one in made:
        client.remove_container(one, force=True)
    client.close()
    return {name: (alone[name], crowded[name]) for name in alone}


def _measure(client: Any, host: Any) -> dict[str, float]:
    target = client.create_container(IMAGE, ["sleep", "100000"], host_config=host)
    client.start(target)

    def start() -> None:
        made = client.create_container(IMAGE, ["true"], host_config=host)
        client.start(made)
        client.wait(made)
        client.remove_container(made)

    def execute() -> None:
        client.exec_start(client.exec_create(target, ["true"]))

    result = {
        "start": _median(start),
        "exec": _median(execute),
        "ps": _median(lambda: client.containers(all=True)),
    }
    client.remove_container(target, force=True)
    return result


def _median(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
