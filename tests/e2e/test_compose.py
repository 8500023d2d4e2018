"""Docker Compose on an application of several services: what people run with it goes on here."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import docker
import pytest

from support.compose import RELEASES, Compose, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

pytestmark = pytest.mark.slow

SHOP = """\
services:
  proxy:
    build: proxy
    init: true
    ports: ["127.0.0.1::80"]
    depends_on: [web]
  web:
    build: web
    init: true
    environment: {STORE: "http://db:5432/value", MOOD: "${MOOD:-plain}"}
    depends_on:
      db: {condition: service_healthy}
  db:
    image: busybox
    init: true
    command: >-
      sh -c "[ -e /data/value ] || echo nothing > /data/value;
      echo ready; exec httpd -f -p 5432 -h /data"
    volumes: ["data:/data"]
    healthcheck:
      test: ["CMD", "test", "-e", "/tmp/healthy"]
      interval: 200ms
      timeout: 60s
      retries: 10000
  errand:
    image: busybox
    profiles: [errands]
    # Compose 1 attaches after the start: what is printed at once it may miss, with any engine.
    command: ["sh", "-c", "sleep 2; exec wget -q -O - http://db:5432/value"]
volumes: {data: {}}
"""
"""A proxy before a web server, one or several, before what stands for a database."""

DOCKERFILE = """\
FROM busybox
COPY answer /www/cgi-bin/answer
CMD ["httpd", "-f", "-p", "%d", "-h", "/www"]
"""
ANSWER = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
%s
"""
PAGES = {
    "proxy": (80, "exec wget -q -O - http://web:8000/cgi-bin/answer"),
    "web": (8000, 'echo "$(hostname) $MOOD $(wget -q -O - $STORE)"'),
}
SECONDS = 60.0


class Shop:
    """The application, as one release of Compose runs it."""

    def __init__(self, compose: Compose) -> None:
        self.compose = compose
        self.daemon = compose.daemon
        (compose.folder / "docker-compose.yml").write_text(SHOP)
        for name, (port, command) in PAGES.items():
            folder = compose.folder / name
            folder.mkdir()
            (folder / "Dockerfile").write_text(DOCKERFILE % port)
            (folder / "answer").write_text(ANSWER % command)
            (folder / "answer").chmod(0o755)

    def up(self) -> list[dict[str, Any]]:
        """Bring it up, its database healthy as soon as it runs; return the events meanwhile."""
        begin = time.time_ns()
        thread = threading.Thread(target=self._heal, args=(begin,))
        thread.start()
        self.compose("up", "-d")
        thread.join()
        return list(self._events(begin, str(time.time())))

    def _heal(self, begin: int) -> None:
        for event in self._events(begin, None):
            if (event["Action"], self.service(event)) == ("start", "db"):
                self.daemon.cli("exec", event["id"], "touch", "/tmp/healthy")
                return

    def _events(self, begin: int, end: str | None) -> Iterator[dict[str, Any]]:
        client = docker.APIClient(base_url=self.daemon.host, version="1.43", timeout=SECONDS)
        filters = {"label": f"com.docker.compose.project={self.compose.name}", "type": "container"}
        with contextlib.closing(client):
            yield from client.events(
                since=f"{begin / 1e9:.9f}", until=end, filters=filters, decode=True
            )

    @staticmethod
    def service(event: dict[str, Any]) -> str:
        """Return whose container an event is of."""
        return str(event["Actor"]["Attributes"]["com.docker.compose.service"])

    def ids(self, service: str) -> list[str]:
        """Return the ids of a service's containers; Compose's own ``ps`` takes its time."""
        labels = {"project": self.compose.name, "service": service}
        filters = [f"--filter=label=com.docker.compose.{key}={labels[key]}" for key in labels]
        return sorted(self.daemon.cli("ps", "-aq", "--no-trunc", *filters).stdout.split())

    def ask(self) -> str:
        """Have the proxy answer."""
        address = self.daemon.cli("port", self.compose.container("proxy"), "80").stdout.strip()
        with self.daemon.inside():
            answer = urllib.request.urlopen(f"http://{address}/cgi-bin/answer", timeout=SECONDS)
        with answer:
            return str(answer.read().decode()).strip()

    def await_answer(self, word: str) -> str:
        """Ask until a word is in the answer: a server that was started does not listen at once."""
        deadline = time.monotonic() + SECONDS
        while word not in (said := self._answer()):
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        return said

    def _answer(self) -> str:
        try:
            return self.ask()
        except OSError as error:
            return repr(error)


@pytest.fixture(scope="module", params=RELEASES)
def shop(
    request: pytest.FixtureRequest,
    shared_daemon: Daemon,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """Return the application, running, with one of each service; its tests leave it so."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("compose") / f"shop{request.param}"
    folder.mkdir()
    compose = Compose(request.param, shared_daemon, folder)
    made = Shop(compose)
    try:
        made.up()
        yield made
    finally:
        compose("down", "-v", "-t", "0", "--rmi", "local")
    for listed in (
        ("ps", "-a", "--format", "{{.Names}}"),
        ("images", "--format", "{{.Repository}}"),
        ("volume", "ls", "-q"),
        ("network", "ls", "--format", "{{.Name}}"),
    ):
        assert compose.name not in shared_daemon.cli(*listed).stdout


def test_the_application_answers(shop: Shop) -> None:
    """Proxy, server and database find one another by their services' names."""
    assert shop.await_answer("plain").split()[1:] == ["plain", "nothing"]


def test_a_start_waits_for_health(shop: Shop) -> None:
    """What depends on a healthy database is started after it became so, not before."""
    shop.compose("rm", "-s", "-f", "web", "db")
    told = [(shop.service(event), event["Action"]) for event in shop.up()]
    assert told.index(("db", "health_status: healthy")) < told.index(("web", "start"))
    assert told.index(("db", "start")) < told.index(("db", "health_status: healthy"))
    shop.await_answer("nothing")


def test_scaling_up_and_down(shop: Shop) -> None:
    """Every server of three is found under the service's name, and the first alone afterwards."""
    (first,) = shop.compose("ps", "-q", "web").stdout.split()
    shop.compose("scale", "web=3")
    assert len(shop.ids("web")) == 3
    names = {id[:12] for id in shop.ids("web")}
    for name in names:
        shop.await_answer(name)
    shop.compose("scale", "web=1")
    assert shop.ids("web") == [first]
    assert {shop.await_answer("nothing").split()[0] for _ in range(5)} == {first[:12]}


def test_commands_in_a_service(shop: Shop) -> None:
    """``exec``, ``run``, ``top`` and ``port``, with the statuses of what was run."""
    compose = shop.compose
    assert compose("exec", "-T", "web", "sh", "-c", "echo $MOOD").stdout == "plain\n"
    assert compose("exec", "-T", "web", "sh", "-c", "exit 7", check=False).returncode == 7
    assert compose("run", "--rm", "-T", "errand").stdout == "nothing\n"
    assert compose("run", "--rm", "-T", "errand", "false", check=False).returncode == 1
    assert "httpd -f -p 8000" in compose("top", "web").stdout
    assert compose("port", "proxy", "80").stdout.startswith("127.0.0.1:")
    assert compose("config", "--services").stdout.split().count("db") == 1
    assert f"{compose.name}" in compose("images").stdout


def test_logs(shop: Shop) -> None:
    """Of one service and of all, named by their service."""
    logs = shop.compose("logs", "--no-color", "--tail", "1", "db").stdout
    assert "ready" in logs.splitlines()[-1].partition("|")[2]
    assert "db" in logs.splitlines()[-1].partition("|")[0]


@pytest.mark.parametrize("how", [("restart", "-t", "0", "web"), ("stop", "web")])
def test_a_service_ends_and_starts_again(shop: Shop, how: tuple[str, ...]) -> None:
    """The same container, and its neighbours find it anew."""
    before = shop.ids("web")
    shop.compose(*how)
    if how[0] != "restart":
        assert shop.daemon.inspect(before[0])["State"]["Status"] == "exited"
        shop.compose("start", "web")
    assert shop.ids("web") == before
    shop.await_answer(before[0][:12])


def test_pausing_and_killing(shop: Shop) -> None:
    """The same container goes on, or starts again."""
    (id,) = shop.ids("web")
    shop.compose("pause", "web")
    assert shop.daemon.inspect(id)["State"]["Paused"]
    shop.compose("unpause", "web")
    shop.await_answer(id[:12])
    shop.compose("kill", "web")
    assert not shop.daemon.inspect(id)["State"]["Running"]
    shop.compose("start", "web")


def test_only_what_has_changed_is_made_anew(shop: Shop) -> None:
    """A second ``up`` changes nothing; another setting remakes its service alone."""
    before = {name: shop.ids(name) for name in ("proxy", "web", "db")}
    shop.compose("up", "-d")
    assert {name: shop.ids(name) for name in before} == before
    shop.compose("up", "-d", MOOD="changed")
    shop.await_answer("changed nothing")
    assert shop.ids("web") != before["web"]
    assert shop.ids("db") == before["db"]
    shop.compose("up", "-d")
    shop.await_answer("plain nothing")


def test_data_survives_down_and_up(shop: Shop) -> None:
    """The volume stays until ``down -v``."""
    shop.compose("exec", "-T", "db", "sh", "-c", "echo kept > /data/value")
    shop.await_answer("kept")
    shop.compose("down", "-t", "0")
    shop.up()
    shop.await_answer("kept")
    shop.compose("down", "-v", "-t", "0")
    shop.up()
    shop.await_answer("nothing")
