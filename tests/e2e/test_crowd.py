"""Two hundred containers at once: no failure, no leak."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from support.agreement import disagreements, settled

if TYPE_CHECKING:
    from support.daemon import Daemon

CROWD = 200
CLIENTS = 16


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_containers_are_started_used_and_removed(own_daemon: Daemon) -> None:
    """Each is started on the bridge, answers an exec, and is removed; the daemon shrinks back."""
    assert own_daemon.process is not None
    mine = Path(f"/proc/{own_daemon.process.pid}/fd")
    client = docker.APIClient(base_url=own_daemon.host, version="1.41", num_pools=CLIENTS)
    _live(client, -1)
    before = len(list(mine.iterdir()))
    with ThreadPoolExecutor(CLIENTS) as pool:
        made = list(pool.map(lambda number: _start(client, number), range(CROWD)))
        addresses = {
            item["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            for item in client.containers()
        }
        assert len(addresses) == CROWD
        assert list(pool.map(lambda one: _use(client, one), made)) == [b"used\n"] * CROWD
        assert settled(lambda: disagreements(own_daemon)) == []
        list(pool.map(lambda one: client.remove_container(one, force=True), made))
    assert client.containers(all=True) == []
    client.close()
    assert settled(lambda: disagreements(own_daemon)) == []
    assert len(list(mine.iterdir())) <= before + CLIENTS


def _start(client: docker.APIClient, number: int) -> str:
    made = client.create_container("busybox", ["sleep", "1000"], name=f"crowd{number}")
    client.start(made)
    return str(made["Id"])


def _use(client: docker.APIClient, one: str) -> bytes:
    output: bytes = client.exec_start(client.exec_create(one, ["echo", "used"]))
    return output


def _live(client: docker.APIClient, number: int) -> None:
    one = _start(client, number)
    _use(client, one)
    client.remove_container(one, force=True)
