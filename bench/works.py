"""The work that is measured: each takes an engine and returns one figure (seconds or bytes)."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker

import transfers
from engines import IMAGE, Engine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WORKS", "Work"]

CROWD = 60
CLIENTS = 8
_OWN_PID_NAMESPACE = Path("/proc/self/ns/pid").readlink()


@dataclass(frozen=True)
class Work:
    """Something to measure.

    :param target: how many times better than the best peer it should be.
    :param runs: how many times it is done, engines in turn.
    :param api: whether it goes through docker-py (so only engines with an API take part).
    """

    name: str
    measure: Callable[[Engine], dict[str, float]]
    target: float
    runs: int = 15
    api: bool = False
    unit: str = "s"


def _client(engine: Engine) -> Any:
    return docker.APIClient(base_url=engine.api, version="1.41", timeout=120)


def _timed(words: list[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def _cli_run(network: str) -> Callable[[Engine], dict[str, float]]:
    def measure(engine: Engine) -> dict[str, float]:
        words = engine.command("run", "--rm", "--network", network, IMAGE, "true")
        return {"": _timed(words, engine.environment())}

    return measure


def _lifecycle(network: str) -> Callable[[Engine], dict[str, float]]:
    def measure(engine: Engine) -> dict[str, float]:
        client = _client(engine)
        client.ping()
        begin = time.perf_counter()
        config = client.create_host_config(network_mode=network)
        made = client.create_container(IMAGE, ["true"], host_config=config)
        client.start(made)
        assert client.wait(made)["StatusCode"] == 0
        client.remove_container(made)
        took = time.perf_counter() - begin
        client.close()
        return {"": took}

    return measure


def _exec(engine: Engine) -> dict[str, float]:
    client = _client(engine)
    config = client.create_host_config(network_mode="none")
    made = client.create_container(IMAGE, ["sleep", "1000"], host_config=config)
    client.start(made)
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        session = client.exec_create(made, ["true"])
        client.exec_start(session)
        assert client.exec_inspect(session)["ExitCode"] == 0
        times.append(time.perf_counter() - begin)
    client.remove_container(made, force=True)
    client.close()
    return {"": sorted(times)[len(times) // 2]}


def _crowd(engine: Engine) -> dict[str, float]:
    clients = [_client(engine) for _ in range(CLIENTS)]
    before = _pss()

    def start(number: int) -> str:
        client = clients[number % CLIENTS]
        made = client.create_container(IMAGE, ["sleep", "1000"])
        client.start(made)
        return str(made["Id"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        begin = time.perf_counter()
        made = list(pool.map(start, range(CROWD)))
        started = time.perf_counter() - begin
        after = _pss()
        begin = time.perf_counter()
        list(pool.map(lambda one: clients[0].remove_container(one, force=True), made))
        removed = time.perf_counter() - begin
    for client in clients:
        client.close()
    assert engine.daemon is not None
    idle = sum(after.values()) - sum(
        size for pid, size in before.items() if pid not in _engine(engine)
    )
    monitors = sum(size for pid, size in after.items() if pid not in before)
    return {"start": started, "remove": removed, "memory": idle, "monitor": monitors / CROWD}


def _engine(engine: Engine) -> set[int]:
    """Return the processes below the engine's daemon (containerd is a child of dockerd)."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    assert engine.daemon is not None
    found = {engine.daemon.pid}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def _pss() -> dict[int, int]:
    """Return the proportional memory, in bytes, of each process of this pid namespace."""
    sizes = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "ns/pid").readlink() != _OWN_PID_NAMESPACE:
                continue
            rollup = (entry / "smaps_rollup").read_text()
        except OSError:
            continue
        line = next((row for row in rollup.splitlines() if row.startswith("Pss:")), "Pss: 0")
        sizes[int(entry.name)] = int(line.split()[1]) * 1024
    return sizes


def _attach(engine: Engine) -> dict[str, float]:
    # dd, since busybox's head copies byte by byte and would be what is measured.
    source = ("dd", "if=/dev/zero", "bs=64k", "count=3052", "status=none")
    words = engine.command("run", "--rm", "--network", "none", IMAGE, *source)
    return {"": _timed(words, engine.environment())}


def _logs(engine: Engine) -> dict[str, float]:
    text = "a line of text that is sixty-nine bytes long, with its newline, or so"
    line = f"yes '{text}' | head -n 500000"
    engine.run("run", "-d", "--name", "logged", "--network", "none", IMAGE, "sh", "-c", line)
    engine.run("wait", "logged")
    try:
        return {"": _timed(engine.command("logs", "logged"), engine.environment())}
    finally:
        engine.run("rm", "-f", "logged")


_STEPS = """\
FROM {image}
ENV A=1
WORKDIR /app
COPY file .
RUN echo one > /one
RUN echo two > /two
LABEL x=y
"""


def _build(*flags: str) -> Callable[[Engine], dict[str, float]]:
    def measure(engine: Engine) -> dict[str, float]:
        folder = engine.folder / "context"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(_STEPS.format(image=IMAGE))
        (folder / "file").write_text("content")
        words = engine.command("build", "-q", *flags, "-t", "built", str(folder))
        environment = {**engine.environment(), "DOCKER_BUILDKIT": "0"}
        if not flags:
            _timed(words, environment)
        return {"": _timed(words, environment)}

    return measure


WORKS = [
    Work("run --rm true, bridge", _cli_run("bridge"), 3.5),
    Work("run --rm true, none", _cli_run("none"), 1.8),
    Work("run --rm true, host", _cli_run("host"), 1.8),
    Work("API life cycle, bridge", _lifecycle("bridge"), 8, api=True),
    Work("API life cycle, none", _lifecycle("none"), 8, api=True),
    Work("API life cycle, host", _lifecycle("host"), 5, api=True),
    Work("exec true", _exec, 4, runs=5, api=True),
    Work(f"{CROWD} bridge containers, {CLIENTS} clients", _crowd, 5, runs=3, api=True),
    Work("attach of 200 MB", _attach, 4, runs=3),
    Work("logs of 35 MB", _logs, 4, runs=3),
    Work("build of 7 steps, no cache", _build("--no-cache"), 5, runs=5),
    Work("build of 7 steps, all cached", _build(), 1, runs=9),
    Work("pull of 512 MB", transfers.pull, 1.5, runs=5),
    Work("push of 512 MB", transfers.push, 3, runs=3),
    Work("push of 512 MB, loaded", transfers.push_loaded, 3, runs=3),
    Work("save of 512 MB", transfers.save, 1.5, runs=3),
    Work("load of 512 MB", transfers.load, 1.5, runs=3),
]
