"""The driver in a daemon, both as the one of all images and beside another one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from engine import BUSYBOX, Engine, engine
from loop import needs, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS = """\
FROM box
RUN echo one > /one && rm /bin/dd
RUN cat /one > /two && echo two >> /two
"""


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """Skip where there is nothing to make an image from."""
    needs(BUSYBOX, "busybox-static")


@pytest.fixture(scope="module")
def folder(disk: Path) -> Path:
    """Return a folder on btrfs for the daemon that keeps everything there."""
    made = disk / "whole"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def whole(folder: Path) -> Iterator[Engine]:
    """Give a daemon that keeps everything on btrfs."""
    with engine(f'[drivers]\nstorage = "btrfs"\n[storage.btrfs]\nfolder = "{folder}"\n') as made:
        yield made


@pytest.fixture(scope="module")
def beside(disk: Path) -> Iterator[Engine]:
    """Give a daemon whose default is another driver, and which has btrfs besides."""
    place = disk / "beside"
    place.mkdir()
    with engine(f'[storage.btrfs]\nfolder = "{place}"\n') as made:
        yield made


def driver_of(engine: Engine, container: str) -> str:
    """Return the id of the storage driver that a container is kept by."""
    found: list[dict[str, dict[str, str]]] = json.loads(engine("inspect", container))
    return found[0]["GraphDriver"]["Name"]


def test_the_life_of_a_container(whole: Engine) -> None:
    """Run, written to, committed and removed; what was committed is an image like others."""
    assert "Storage Driver: btrfs" in whole("info")
    assert whole("run", "--name", "one", "box", "sh", "-c", "echo hello > /file") == ""
    assert whole("diff", "one") == "A /file\n"
    whole("commit", "one", "written")
    whole("rm", "one")
    assert whole("run", "--rm", "written", "cat", "/file") == "hello\n"
    whole("rmi", "written")
    assert whole("images", "-q", "written") == ""


def test_containers_outlive_a_daemon_that_is_killed(whole: Engine, folder: Path) -> None:
    """The one that runs goes on, and what was written is there when it is started again."""
    whole("run", "-d", "--name", "runs", "box", "sh", "-c", "echo before > /file; sleep 1000")
    whole("run", "--name", "ended", "box", "sh", "-c", "echo ended > /file")
    whole.kill()
    whole.start()
    assert whole("exec", "runs", "cat", "/file") == "before\n"
    assert whole("diff", "ended") == "A /file\n"
    whole("restart", "-t", "0", "runs")
    assert whole("exec", "runs", "cat", "/file") == "before\n"
    whole("rm", "-f", "runs", "ended")
    assert list((folder / "containers").iterdir()) == []


def test_a_build(whole: Engine) -> None:
    """Each step stands on the one before, and is a layer of its own; the second time all cached."""
    context = whole.folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(STEPS)
    whole("build", "-t", "built", str(context))
    assert whole("run", "--rm", "built", "sh", "-c", "cat /one /two") == "one\none\ntwo\n"
    whole("run", "--rm", "built", "dd", status=127)
    layers = json.loads(whole("inspect", "--format", "{{json .RootFS.Layers}}", "built"))
    assert len(layers) == 3
    first = whole("images", "-q", "built")
    whole("build", "-t", "built", str(context))
    assert whole("images", "-q", "built") == first


def test_it_works_beside_another_driver(beside: Engine) -> None:
    """A container says which of them keeps it; both have the image, and see the same."""
    for name, options in (("other", []), ("btrfs", ["--storage-driver", "btrfs"])):
        beside("run", "--name", name, *options, "box", "sh", "-c", f"echo {name} > /file")
    assert driver_of(beside, "other") != "btrfs"
    assert driver_of(beside, "btrfs") == "btrfs"
    assert beside("diff", "btrfs") == beside("diff", "other") == "A /file\n"
    beside.kill()
    beside.start()
    assert driver_of(beside, "btrfs") == "btrfs"
    beside("commit", "btrfs", "committed")
    assert beside("run", "--rm", "committed", "cat", "/file") == "btrfs\n"
    beside("rm", "other", "btrfs")


def test_the_size_of_a_container_is_limited(beside: Engine) -> None:
    """``--storage-opt size=`` reaches the filesystem's quotas."""
    limited = ("run", "--rm", "--storage-driver", "btrfs", "--storage-opt", "size=4m", "box")
    said = beside(*limited, "dd", "if=/dev/urandom", "of=/large", "bs=1M", "count=16", status=1)
    assert "quota" in said


def test_a_filesystem_that_is_another_is_told_by_the_command_line(tmp_path: Path) -> None:
    """``pannier drivers`` has the driver's row, with the reason, and needs no daemon."""
    run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path))
    made = Engine(f'[storage.btrfs]\nfolder = "{tmp_path}"\n')
    try:
        said = made("--config", str(made.config), "drivers")
        row = next(line for line in said.splitlines() if line.split()[:2] == ["storage", "btrfs"])
        assert os.fspath(tmp_path) in row
        assert "does not lie on btrfs" in row
        assert "[storage.btrfs]" in said
    finally:
        made.close()
        run("umount", str(tmp_path))
