"""Images on their way to other engines and back: Docker, podman, umoci and skopeo."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.dockerd import running_dockerd, why_not
from support.registry import FaultyRegistry, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

pytestmark = pytest.mark.slow

DOCKER = "application/vnd.docker."


@pytest.fixture
def made(daemon: Daemon) -> Iterator[str]:
    """Return an image of several layers, with a name, that was made here."""
    daemon.cli(
        "run", "--name", "maker", "busybox", "sh", "-c", "mkdir /d; ln -s x /d/l; rm /etc/group"
    )
    daemon.cli("commit", "-c", "ENV A=b", "-c", 'CMD ["cat", "/etc/passwd"]', "maker", "made:1")
    daemon.cli("rm", "maker")
    yield "made:1"
    daemon.cli("rmi", "-f", "made:1", check=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path, as podman demands."""
    path = Path(tempfile.mkdtemp(prefix="rt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def identity(daemon: Daemon, name: str) -> str:
    """Return an image's id."""
    return str(json.loads(daemon.cli("image", "inspect", name).stdout)[0]["Id"])


def run(*words: object) -> str:
    """Run a program."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def comes_back(daemon: Daemon, archive: Path, name: str, expected: str) -> None:
    """Check that an archive brings the same image in, and that it runs."""
    daemon.cli("rmi", "-f", name)
    assert f"Loaded image: {name}" in daemon.cli("load", "-i", str(archive)).stdout
    assert identity(daemon, name) == expected
    assert daemon.cli("run", "--rm", name).stdout.startswith("root:x:0:0")


def test_docker(daemon: Daemon, made: str, folder: Path) -> None:
    """It takes ours in, and gives the same image back."""
    if why_not():
        pytest.skip(why_not())
    expected = identity(daemon, made)
    ours, theirs = folder / "ours.tar", folder / "theirs.tar"
    daemon.cli("save", "-o", str(ours), made)
    with running_dockerd() as dockerd:
        assert f"Loaded image: {made}".encode() in dockerd.docker("load", "-i", str(ours)).stdout
        found = dockerd.docker("image", "inspect", "-f", "{{.Id}}", made).stdout
        assert found.decode().strip() == expected
        dockerd.docker("save", "-o", str(theirs), made)
    comes_back(daemon, theirs, made, expected)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman(
    daemon: Daemon, made: str, folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise, in both of its forms."""
    needs("podman", "podman")
    config = folder / "containers.conf"
    config.write_text('[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(config))
    podman = ["podman", "--root", folder / "pm", "--runroot", folder / "pmr"]
    expected = identity(daemon, made)
    ours, theirs = folder / "ours.tar", folder / "theirs.tar"
    daemon.cli("save", "-o", str(ours), made)
    try:
        run(*podman, "load", "-q", "-i", ours)
        # Podman names what has no registry "localhost".
        found = run(*podman, "images", "-q", "--no-trunc").split()
        assert found == [expected]
        run(*podman, "tag", found[0], "docker.io/library/made:1")
        run(*podman, "save", "-q", "--format", form, "-o", theirs, "docker.io/library/made:1")
    finally:
        subprocess.run([*map(str, podman), "rmi", "-af"], check=False, capture_output=True)
    if form == "docker-archive":
        comes_back(daemon, theirs, made, expected)
        return
    # Podman writes another configuration for OCI's form; the layers are the same.
    layers = daemon.inspect(made)["RootFS"]
    daemon.cli("rmi", made)
    loaded = daemon.cli("load", "-i", str(theirs)).stdout.partition(": ")[2].strip()
    assert json.loads(daemon.cli("image", "inspect", loaded).stdout)[0]["RootFS"] == layers
    assert daemon.cli("run", "--rm", loaded).stdout.startswith("root:x:0:0")
    if loaded != made:
        daemon.cli("rmi", "-f", loaded)


def _layout(daemon: Daemon, name: str, folder: Path) -> Path:
    """Save an image, and unpack the archive, which is an OCI layout."""
    daemon.cli("save", "-o", str(folder / "saved.tar"), name)
    layout = folder / "layout"
    with tarfile.open(folder / "saved.tar") as archive:
        # Ours, so it may be trusted; Debian 12's Python has no argument `filter`.
        archive.extraction_filter = lambda member, _: member
        archive.extractall(layout)
    return layout


def test_umoci(daemon: Daemon, made: str, folder: Path) -> None:
    """It unpacks ours, and what it changes in the layout comes back."""
    needs("umoci", "umoci")
    layout = _layout(daemon, made, folder)
    assert run("umoci", "ls", "--layout", layout).split() == ["1"]
    run("umoci", "unpack", "--image", f"{layout}:1", folder / "bundle")
    assert (folder / "bundle" / "rootfs" / "d" / "l").is_symlink()
    assert not (folder / "bundle" / "rootfs" / "etc" / "group").exists()
    (folder / "bundle" / "rootfs" / "new").write_text("new\n")
    run("umoci", "repack", "--image", f"{layout}:1", folder / "bundle")
    (folder / "more").write_text("more\n")
    # This writes a layer without padding and without an end.
    run("umoci", "insert", "--image", f"{layout}:1", folder / "more", "/more")
    (layout / "manifest.json").unlink()  # Docker's view of it, which umoci does not know
    index = json.loads((layout / "index.json").read_text())
    assert len(index["manifests"]) == 1
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(layout, ".")
    loaded = daemon.cli("load", input=packed.getvalue()).stdout.partition(": ")[2].strip()
    words = ("run", "--rm", loaded, "cat", "/new", "/more")
    assert daemon.cli(*words).stdout == "new\nmore\n"
    daemon.cli("rmi", "-f", loaded)


def test_what_came_as_schema_2_is_oci_in_a_layout(daemon: Daemon, folder: Path) -> None:
    """Else neither skopeo nor umoci would find it there; the image stays the same."""
    needs("skopeo", "skopeo")
    needs("umoci", "umoci")
    layout = _pushed_and_pulled(daemon, folder)
    assert "image.manifest.v1+json" in (layout / "index.json").read_text()
    found = json.loads(run("skopeo", "inspect", "--config", f"oci:{layout}:1"))
    assert found["config"]["Cmd"] == ["sh"]
    run("umoci", "unpack", "--image", f"{layout}:1", folder / "bundle")
    assert (folder / "bundle" / "rootfs" / "bin" / "busybox").exists()


def _pushed_and_pulled(daemon: Daemon, folder: Path) -> Path:
    registry = FaultyRegistry(inside=daemon.inside)
    registry.faults.kinds = DOCKER
    name = f"{registry.host}/x:1"
    try:
        # A layer that was loaded compressed is kept so, and then named by schema 2.
        daemon.cli("tag", "busybox", name)
        expected = identity(daemon, name)
        daemon.cli("push", name)
        raw, kind = registry.manifests["x", "1"]
        assert (DOCKER in kind, json.loads(raw)["config"]["digest"]) == (True, expected)
        daemon.cli("rmi", "-f", "busybox", name)
        daemon.cli("pull", name)
        return _layout(daemon, name, folder)
    finally:
        daemon.cli("tag", name, "busybox")
        daemon.cli("rmi", name)
        registry.close()
