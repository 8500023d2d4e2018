"""Real images, however they come in, through a whole life on both storage drivers."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODES = ("bridge", "none", "host", "container:other")


@pytest.fixture(scope="session")
def minbase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tar archive of a Debian minbase, as debootstrap makes it."""
    if shutil.which("debootstrap") is None:
        pytest.skip("needs debootstrap: apt-get install debootstrap")
    folder = tmp_path_factory.mktemp("minbase")
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", str(folder / "root")],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"debootstrap reaches no mirror: {made.stdout[-300:]}{made.stderr[-300:]}")
    archive = folder / "minbase.tar"
    command = ["tar", "-C", str(folder / "root"), "--numeric-owner", "-cf", str(archive), "."]
    subprocess.run(command, check=True)
    shutil.rmtree(folder / "root")
    return archive


@pytest.fixture(scope="session")
def skopeo_archive(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Path:
    """Return a docker-archive that skopeo wrote, from an OCI layout that it wrote, too."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo: apt-get install skopeo")
    folder = tmp_path_factory.mktemp("skopeo")
    layout, archive = f"oci:{folder}/layout:1", f"docker-archive:{folder}/a.tar:from-skopeo:1"
    for source, target in ((f"docker-archive:{busybox}", layout), (layout, archive)):
        subprocess.run(["skopeo", "copy", "-q", source, target], check=True)
    path: Path = folder / "a.tar"
    return path


def live(daemon: Daemon, image: str) -> None:
    """Run, write, stop, start again, commit and remove, on every network mode."""
    cli = daemon.cli
    cli("run", "-d", "--name", "other", image, "sleep", "1000")
    for mode in MODES:
        script = "cat /kept 2>/dev/null; echo written >> /kept; exec sleep 1000"
        cli("run", "-d", "--name", "cc", "--network", mode, image, "sh", "-c", script)
        cli("exec", "cc", "sh", "-c", "until [ -s /kept ]; do sleep 0.05; done")
        cli("stop", "-t", "0", "cc")
        cli("start", "cc")
        cli("exec", "cc", "sh", "-c", 'until [ "$(wc -l < /kept)" = 2 ]; do sleep 0.05; done')
        assert cli("diff", "cc").stdout.splitlines() == ["A /kept"]
        cli("commit", "cc", "made:1")
        assert cli("run", "--rm", "made:1", "cat", "/kept").stdout == "written\nwritten\n"
        cli("rm", "-f", "cc")
        cli("rmi", "made:1")
    cli("rm", "-f", "other")


def test_a_debian_made_by_debootstrap(
    storage_daemon: Daemon, minbase: Path, tmp_path: Path
) -> None:
    """Imported, and loaded again from what was saved: its own tools work in it."""
    cli = storage_daemon.cli
    cli("import", str(minbase), "debian:minbase", timeout=300)
    assert "bookworm" in cli("run", "--rm", "debian:minbase", "cat", "/etc/os-release").stdout
    packages = cli("run", "--rm", "debian:minbase", "dpkg-query", "-W", "-f", "${Package}\n")
    assert "base-files" in packages.stdout.split()
    live(storage_daemon, "debian:minbase")
    before = storage_daemon.inspect("debian:minbase")["Id"]
    cli("save", "-o", str(tmp_path / "saved.tar"), "debian:minbase", timeout=300)
    cli("rmi", "debian:minbase")
    cli("load", "-i", str(tmp_path / "saved.tar"), timeout=300)
    assert storage_daemon.inspect("debian:minbase")["Id"] == before
    live(storage_daemon, "debian:minbase")


def test_an_archive_written_by_skopeo(storage_daemon: Daemon, skopeo_archive: Path) -> None:
    """What another engine's tool wrote is loaded and runs."""
    storage_daemon.cli("load", "-i", str(skopeo_archive))
    live(storage_daemon, "from-skopeo:1")
