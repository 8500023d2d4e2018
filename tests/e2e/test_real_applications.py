"""Real applications of several services: Debian's nginx, PostgreSQL and Redis under Compose."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from support import applications
from support.applications import APPLICATIONS, build_images
from support.compose import RELEASES, Compose, why_not
from support.daemon import Daemon, leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(applications.why_not()), reason=applications.why_not()),
]

SECONDS = 60.0


@pytest.fixture(scope="module")
def real_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon that has built the images."""
    daemon = Daemon()
    try:
        daemon.start()
        list(build_images(daemon, tmp_path_factory.mktemp("images")))
        yield daemon
    finally:
        daemon.close()
    assert leftovers(daemon) == []


@pytest.fixture(params=RELEASES)
def start(
    request: pytest.FixtureRequest, real_daemon: Daemon, tmp_path: Path
) -> Iterator[Callable[[str], Compose]]:
    """Return what brings an application up; all that it made goes at the end."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    begun: list[Compose] = []

    def up(name: str) -> Compose:
        folder = tmp_path / f"{name}{request.param}"
        shutil.copytree(APPLICATIONS / name, folder)
        compose = Compose(request.param, real_daemon, folder)
        begun.append(compose)
        compose("up", "-d")
        return compose

    yield up
    for compose in begun:
        compose("down", "-v", "--rmi", "local")
    assert real_daemon.cli("ps", "-aq").stdout == ""
    assert real_daemon.cli("volume", "ls", "-q").stdout == ""
    networks = real_daemon.cli("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert sorted(networks) == ["bridge", "host", "none"]


def _ask(compose: Compose, data: str | None = None) -> list[str]:
    """Ask through the proxy until there is an answer; return its lines."""
    deadline = time.monotonic() + SECONDS
    while True:
        port = compose.daemon.cli("port", compose.container("proxy"), "80").stdout.strip()
        try:
            with compose.daemon.inside():
                answer = urllib.request.urlopen(
                    f"http://{port}/", data.encode() if data else None, timeout=SECONDS
                )
            with answer:
                return str(answer.read().decode()).split("\n")
        except OSError:  # it does not listen yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def test_a_journal_keeps_its_entries(start: Callable[[str], Compose]) -> None:
    """Behind nginx, by three servers at once, over restarts, and over ``down`` and ``up``."""
    journal = start("journal")
    assert _ask(journal, "first") == ["kept"]
    assert _ask(journal)[1:] == ["first"]
    journal("up", "-d", "--scale", "web=3", "--no-recreate")
    names = {id[:12] for id in journal("ps", "-q", "web").stdout.split()}
    assert len(names) == 3
    seen: set[str] = set()
    _until(lambda: seen.add(_ask(journal)[0]) or seen == names)  # type: ignore[func-returns-value]
    assert "GET / HTTP/1.0" in journal("logs", "--no-color", "web").stderr + (
        journal("logs", "--no-color", "web").stdout
    )
    said = journal("exec", "-T", "db", "psql", "-h", "/tmp", "-U", "writer", "-Atc",
                   "SELECT text FROM entries", "journal").stdout  # fmt: skip
    assert said == "first\n"
    journal("restart", "db")
    assert _ask(journal, "second") == ["kept"]
    journal("down")
    journal("up", "-d")
    assert _ask(journal)[1:] == ["first", "second"]
    journal("down", "-v")
    journal("up", "-d")
    assert _ask(journal)[1:] == []


def test_a_counter_counts_on(start: Callable[[str], Compose]) -> None:
    """Redis is started again after its end, and its data are there; its network leads nowhere."""
    counter = start("counter")
    assert _ask(counter)[1] == "1"
    assert _ask(counter)[1] == "2"
    store = counter.container("store")
    before = counter.daemon.inspect(store)["State"]["StartedAt"]
    counter("exec", "-T", "store", "redis-cli", "shutdown", "save", check=False)
    _until(lambda: str(counter.daemon.inspect(store)["State"]["StartedAt"]) > before)
    assert _ask(counter)[1] == "3"
    counter.daemon.kill()
    counter.daemon.start()
    assert _ask(counter)[1] == "4"
    counter("stop")
    counter("start")
    assert _ask(counter)[1] == "5"
    ready = counter("logs", "--no-color", "store").stdout.count("Ready to accept connections")
    assert ready == 3
    counter("down")
    counter("up", "-d")
    assert _ask(counter)[1] == "6"
    routes = counter("exec", "-T", "store", "cat", "/proc/net/route").stdout.splitlines()[1:]
    assert routes
    assert [line for line in routes if line.split()[1] == "00000000"] == []


def test_a_queue_starts_in_its_order(start: Callable[[str], Compose]) -> None:
    """Databases, table, worker, front: each when what it waits for is well; every order booked."""
    queue = start("queue")
    began = {}
    for service in ("db", "redis", "table", "worker", "front"):
        state = queue.daemon.inspect(queue.container(service))["State"]
        began[service] = state["StartedAt"]
        assert (state["Status"], state["ExitCode"]) == (
            ("exited", 0) if service == "table" else ("running", 0)
        )
    assert max(began["db"], began["redis"]) < began["table"] < began["worker"] < began["front"]
    count = ("exec", "-T", "db", "psql", "-h", "/tmp", "-U", "clerk", "-Atc",
             "SELECT count(*), sum(number) FROM orders", "orders")  # fmt: skip
    _until(lambda: queue(*count).stdout == "3|6\n")
    queue("pause", "worker")
    queue("exec", "-T", "redis", "redis-cli", "rpush", "orders", "4")
    assert queue("exec", "-T", "redis", "redis-cli", "llen", "orders").returncode == 0
    queue("unpause", "worker")
    _until(lambda: queue(*count).stdout == "4|10\n")
    assert "booked 4" in queue("logs", "--no-color", "worker").stdout


TESTCONTAINERS = """\
import psycopg2
import redis
from testcontainers.postgres import PostgresContainer
from testcontainers.redis import RedisContainer

with PostgresContainer("real/postgresql", driver=None) as postgres:
    connection = psycopg2.connect(postgres.get_connection_url())
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE one (value int); INSERT INTO one VALUES (7)")
    cursor.execute("SELECT value FROM one")
    print("postgresql", cursor.fetchone()[0])
    connection.close()
with RedisContainer("real/redis") as container:
    client = container.get_client()
    client.set("key", "value")
    print("redis", client.get("key").decode())
    client.close()
"""


def test_testcontainers_starts_databases(real_daemon: Daemon, tmp_path: Path) -> None:
    """The library of that name waits for them, connects, and removes them."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    wanted = ("testcontainers", "redis", "psycopg2-binary")
    subprocess.run([venv / "bin/pip", "install", "-q", *wanted], check=True)
    assert real_daemon.process is not None
    done = subprocess.run(
        [
            *("nsenter", f"--net=/proc/{real_daemon.process.pid}/ns/net"),
            *(venv / "bin/python", "-c", TESTCONTAINERS),
        ],
        env={
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(tmp_path),
            "DOCKER_HOST": real_daemon.host,
            # Its own helper is an image of Docker Hub's, which cannot be had here.
            "TESTCONTAINERS_RYUK_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["postgresql 7", "redis value"]
    assert real_daemon.cli("ps", "-aq").stdout == ""
