"""Killing the process in the middle of loads, commits and removals."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pannier.database import Database
from pannier.drivers.base import DriverContext
from pannier.images.images import ImageStore
from pannier_storage_overlay.driver import OverlayStorage
from support.images import digest, docker_archive, image, layer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.slow]

KILLS = 12

WORKER = """
import io, sys
from pathlib import Path
from tests_worker import open_store

store = open_store(Path(sys.argv[1]))
data = Path(sys.argv[2]).read_bytes()
print("ready", flush=True)
while True:
    print("round", flush=True)
    list(store.load(io.BytesIO(data)))
    print("loaded", flush=True)
    store.tag("two:1", "kept:1")
    store.remove("one:1", users=tuple)
    store.remove("kept:1", users=tuple)
    store.remove("two:1", users=tuple)
"""

OPENER = """
from pannier.database import Database
from pannier.drivers.base import DriverContext
from pannier.images.images import ImageStore
from pannier_storage_overlay.driver import OverlayStorage


def open_store(root):
    context = DriverContext(root / "driver", root / "state")
    driver = OverlayStorage(context, OverlayStorage.config_type())
    return ImageStore(root, Database(root / "pannier.db"), driver)
"""


def check(root: Path) -> None:
    """Open what a killed process left: each image is whole, and there is nothing besides."""
    driver = OverlayStorage(
        DriverContext(root / "driver", root / "state"), OverlayStorage.config_type()
    )
    with closing(Database(root / "pannier.db")) as database:
        store = ImageStore(root, database, driver)
        images = store.list(all=True)
        chains = {part.chain_id for found in images for part in found.layers}
        assert chains <= set(driver.layers())
        for found in images:
            assert found.tags
            store.save([found.id], io.BytesIO())
        wanted = {found.id for found in images} | {found.manifest.digest for found in images}
        wanted |= {part.blob.digest for found in images for part in found.layers}
        assert set(store.content.digests()) == wanted
        for name in wanted:
            with store.content.open(name) as blob:
                assert digest(blob.readall()) == name
        assert list(store.content.ingest.iterdir()) == []
    driver.close()


def _killed(command: list[str], environment: dict[str, str], line: str, seconds: float) -> None:
    """Kill a worker so many seconds after it has said *line*."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as worker:
        assert worker.stdout is not None
        assert f"{line}\n" in iter(worker.stdout.readline, "")
        # The moment is the point of the test: there is no event to wait for.
        time.sleep(seconds)
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)


def _durations(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Measure how long loading and removing take here, by what is said at their begin."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as worker:
        assert worker.stdout is not None
        assert "round\n" in iter(worker.stdout.readline, "")
        begin = time.monotonic()
        assert worker.stdout.readline() == "loaded\n"
        loaded = time.monotonic()
        assert worker.stdout.readline() == "round\n"
        removed = time.monotonic()
        worker.kill()
    return {"round": loaded - begin, "loaded": removed - loaded}


def test_a_kill_at_any_moment_leaves_whole_images_or_none(tmp_path: Path) -> None:
    """And nothing that the next start does not clean up; be it while loading or removing."""
    root = tmp_path / "root"
    for folder in (root, root / "driver", root / "state"):
        folder.mkdir(mode=0o700)
    archive = tmp_path / "images.tar"
    base = layer({"bin": None, **{f"bin/{number}": "x" * 5000 for number in range(20)}})
    one = image([base], tags=["one:1"])
    two = image([base, layer({"etc/motd": "hello"})], tags=["two:1"])
    archive.write_bytes(docker_archive([one, two]))
    (tmp_path / "tests_worker.py").write_text(OPENER)
    chance = random.Random(7)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", WORKER, str(root), str(archive)]
    durations = _durations(command, environment)
    check(root)
    for number in range(KILLS):
        line = ("round", "loaded")[number % 2]
        _killed(command, environment, line, chance.uniform(0, durations[line]))
        check(root)
