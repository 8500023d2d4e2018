"""The daemon is killed at each step of making and removing a container with volumes.

The next one leaves no volume that nobody was told of, nor one that was to go with its container,
and takes none that somebody has.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from support.agreement import disagreements, settled
from support.changes import asked
from support.dying import dying_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.daemon import Daemon
    from support.dying import Dying

REMOVER = "pannier.engine.removal:Remover"
STORE = "pannier.engine.store:Store"
VOLUMES = "pannier.engine.volumes:VolumeStore"

BOX = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "read x < /wait"],
    "Volumes": {"/first": {}, "/second": {}},
    "HostConfig": {"Binds": ["named:/named"]},
}

STEPS = {
    # What is asked for, where the daemon dies, after how many calls; whether the container is left.
    "remove, nothing done": ("DELETE", f"{STORE}.delete", 0, True),
    "remove, without row": ("DELETE", f"{REMOVER}._remove_layer", 0, False),
    "remove, without layer": ("DELETE", f"{VOLUMES}.discard", 0, False),
    "remove, without the first volume": ("DELETE", f"{VOLUMES}.discard", 1, False),
    "remove, with a volume put aside": ("DELETE", f"{STORE}.delete_volume", 0, False),
    "remove, with a volume to clear": ("DELETE", f"{VOLUMES}.clear", 0, False),
    "make, with a volume's folder": ("POST", f"{STORE}.put_volume", 0, False),
    "make, with a volume": ("POST", f"{VOLUMES}.ensure", 1, False),
    "make, with all volumes": ("POST", f"{STORE}.add", 0, False),
}


@pytest.fixture
def dying(
    tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Daemon, Dying]]:
    """Give a daemon, and what kills it."""
    places = sorted({step[1] for step in STEPS.values()})
    with dying_daemon(tmp_path, places, busybox, monkeypatch) as found:
        yield found


def _volumes(daemon: Daemon) -> list[str]:
    return daemon.cli("volume", "ls", "-q").stdout.split()


def _there(daemon: Daemon) -> list[str]:
    """Return what is on the disk."""
    return sorted(path.name for path in (daemon.folder / "root/volumes").iterdir())


def test_volumes_of_containers_at_a_kill(dying: tuple[Daemon, Dying]) -> None:
    """At each step: a container's anonymous volumes are there with it, and else are not."""
    daemon, death = dying
    for name, (method, place, calls, stays) in STEPS.items():
        daemon.cli("volume", "create", "other")
        if method == "DELETE":
            asked(daemon, "POST", "/containers/create?name=box", BOX)
        death.arm(place, calls)
        path = "box?v=1" if method == "DELETE" else "create?name=box"
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            asked(daemon, method, f"/containers/{path}", BOX)
        death.disarm()
        assert daemon.process is not None
        assert daemon.process.wait(60) == -9, name
        daemon.start()
        found = _volumes(daemon)
        # That a named one is kept is said by the container that was made with it.
        named = {"named"} if method == "DELETE" else set()
        assert len(found) == len(named) + 1 + 2 * stays, name
        assert set(found) >= named | {"other"}, name
        assert settled(lambda found=found: [*set(_there(daemon)) ^ set(found)]) == [], name  # type: ignore[misc] # mypy takes no defaults of lambdas
        assert settled(lambda: disagreements(daemon)) == [], name
        if stays:
            asked(daemon, "DELETE", "/containers/box?v=1", {})
        daemon.cli("volume", "rm", "-f", "named", "other")
        assert _volumes(daemon) == [], name


def test_volumes_that_others_have_at_a_kill(dying: tuple[Daemon, Dying]) -> None:
    """A volume that is to go stays if a container, or a user who asked for it, has it meanwhile."""
    daemon, death = dying
    asked(daemon, "POST", "/containers/create?name=box", BOX)
    asked(
        daemon,
        "POST",
        "/containers/create?name=two",
        BOX | {"HostConfig": {"VolumesFrom": ["box"]}},
    )
    death.arm(f"{REMOVER}._remove_layer")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        asked(daemon, "DELETE", "/containers/box?v=1", {})
    death.disarm()
    assert daemon.process is not None
    assert daemon.process.wait(60) == -9
    daemon.start()
    assert len(_volumes(daemon)) == 3
    asked(daemon, "DELETE", "/containers/two?v=1", {})
    assert _volumes(daemon) == ["named"]
