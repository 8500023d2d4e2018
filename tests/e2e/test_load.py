"""Fifty clients at once on a mix of calls: no error, and nothing grows."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from support.agreement import disagreements, settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.daemon import Daemon

CLIENTS = 50
SECONDS = float(os.environ.get("PANNIER_LOAD_SECONDS", "20"))
"""Of the load that is measured; another such load, half as long, comes before it."""

ALLOWED_GROWTH = 32 << 20
"""Bytes of memory: Python's allocator does not give all of it back."""


class Mix:
    """Does one thing after another, each time another one, and notes what went wrong."""

    def __init__(self, daemon: Daemon) -> None:
        self._host = daemon.host
        self._end = 0.0
        self.errors: list[str] = []
        self.calls = 0
        self._lock = threading.Lock()

    def run(self, seconds: float) -> None:
        """Have all clients work for a while."""
        self._end = time.monotonic() + seconds
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self._client, range(CLIENTS)))
        gc.collect()  # docker-py leaves the sockets of execs to it

    def _client(self, number: int) -> None:
        chance = random.Random(number)  # the same mix every time
        client = docker.APIClient(base_url=self._host, version="1.43", timeout=120)
        works: list[Callable[[docker.APIClient, str], None]] = [
            self._life,
            self._looks,
            self._looks,
            self._exec,
            self._files,
            self._follow,
            self._volumes,
            self._networks,
            self._image,
        ]
        turn = 0
        while time.monotonic() < self._end:
            work = chance.choice(works)
            turn += 1
            try:
                work(client, f"load-{number}-{turn}")
            except Exception as error:  # noqa: BLE001 - every one is a finding
                with self._lock:
                    self.errors.append(f"{work.__name__}: {error!r}"[:500])
            with self._lock:
                self.calls += 1
        client.close()

    @contextlib.contextmanager
    def _container(self, client: docker.APIClient, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a generator of ids
        made = client.create_container("busybox", ["sh", "-c", "echo hi; sleep 1000"], name=name)
        try:
            client.start(made)
            yield made["Id"]
        finally:
            client.remove_container(made, force=True, v=True)

    def _life(self, client: docker.APIClient, name: str) -> None:
        made = client.create_container("busybox", ["echo", "hello"], name=name)
        client.start(made)
        assert client.wait(made)["StatusCode"] == 0
        assert client.logs(made) == b"hello\n"
        client.remove_container(made)

    def _looks(self, client: docker.APIClient, name: str) -> None:
        client.containers(all=True)
        client.images()
        client.networks()
        client.volumes()
        client.info()
        client.version()
        client.df()
        client.inspect_image("busybox")
        with pytest.raises(docker.errors.NotFound):
            client.inspect_container(name)

    def _exec(self, client: docker.APIClient, name: str) -> None:
        with self._container(client, name) as id:
            made = client.exec_create(id, ["echo", "inside"])
            assert client.exec_start(made) == b"inside\n"
            assert client.exec_inspect(made)["ExitCode"] == 0
            client.top(id)
            client.stats(id, stream=False, one_shot=True)
            client.pause(id)
            client.unpause(id)

    def _files(self, client: docker.APIClient, name: str) -> None:
        with self._container(client, name) as id:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as archive:
                member = tarfile.TarInfo("f")
                member.size = 100_000
                archive.addfile(member, io.BytesIO(bytes(100_000)))
            assert client.put_archive(id, "/tmp", out.getvalue())
            stream, _ = client.get_archive(id, "/tmp/f")
            assert len(b"".join(stream)) > 100_000
            assert {"Path": "/tmp/f", "Kind": 1} in client.diff(id)

    def _follow(self, client: docker.APIClient, name: str) -> None:
        with self._container(client, name) as id:
            lines = client.logs(id, stream=True, follow=True)
            assert next(lines) == b"hi\n"
            lines.close()  # a client that goes away in the middle
            events = client.events(since=1, until=int(time.time()), filters={"container": id})
            list(events)

    def _networks(self, client: docker.APIClient, name: str) -> None:
        client.create_network(name)
        with self._container(client, name) as id:
            client.connect_container_to_network(id, name, aliases=["aka"])
            assert id in client.inspect_network(name)["Containers"]
            client.disconnect_container_from_network(id, name)
        client.remove_network(name)

    def _image(self, client: docker.APIClient, name: str) -> None:
        file = io.BytesIO(f"FROM busybox\nRUN echo {name} > /f\n".encode())
        said = b"".join(client.build(fileobj=file, tag=name, rm=True, forcerm=True))
        assert b"Successfully tagged" in said, said[-300:]
        assert sum(map(len, client.get_image(name))) > 1 << 20
        client.history(name)
        client.remove_image(name)

    def _volumes(self, client: docker.APIClient, name: str) -> None:
        client.create_volume(name)
        client.inspect_volume(name)
        client.remove_volume(name)


def _memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the sockets that docker-py leaves
@pytest.mark.timeout(SECONDS * 4 + 240)
def test_fifty_clients_at_once(own_daemon: Daemon) -> None:
    """No call fails, nothing is left, and the daemon is no larger than after the first load."""
    assert own_daemon.process is not None
    pid = own_daemon.process.pid
    mix = Mix(own_daemon)
    mix.run(SECONDS / 2)
    assert settled(lambda: disagreements(own_daemon)) == []
    memory, descriptors = _memory(pid), _descriptors(pid)
    mix.run(SECONDS)
    assert sorted(set(mix.errors)) == []
    assert settled(lambda: disagreements(own_daemon)) == []
    assert _descriptors(pid) <= descriptors + 4
    grown = _memory(pid) - memory
    print(  # noqa: T201 - shown with -s: what was measured
        f"{mix.calls} pieces of work; {memory >> 20} MiB and {descriptors} descriptors before,"
        f" {grown >> 10} KiB and {_descriptors(pid) - descriptors} more after"
    )
    assert grown < ALLOWED_GROWTH, f"{grown >> 20} MiB more after {mix.calls} pieces of work"
