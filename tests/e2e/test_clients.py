"""The docker command and docker-py are equal citizens."""

from __future__ import annotations

import io
import shutil
import tarfile
from typing import TYPE_CHECKING

import docker
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.daemon import Daemon

needs_docker = pytest.mark.skipif(
    shutil.which("docker") is None, reason="needs the docker client: apt-get install docker.io"
)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    """Return docker-py, connected to the daemon."""
    made = docker.DockerClient(base_url=daemon.host, version="auto")
    yield made
    made.close()


@needs_docker
def test_the_docker_command_runs_containers(daemon: Daemon, tmp_path: Path) -> None:
    """A tour of the commands that people know."""
    run = daemon.docker
    assert run("run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    assert run("run", "--rm", "-i", "busybox", "cat", input="x" * 100000).stdout == "x" * 100000
    assert run("run", "--rm", "busybox", "sh", "-c", "exit 5", check=False).returncode == 5
    assert run("run", "--rm", "busybox", "nothing", check=False).returncode == 127
    run("run", "-d", "--name", "dd", "-p", "8090:80", "-v", "dv:/data", "busybox", "sleep", "1000")
    assert "8090->80/tcp" in run("ps").stdout
    assert run("exec", "dd", "echo", "in").stdout == "in\n"
    assert run("exec", "dd", "nothing", check=False).returncode in {126, 127}
    assert run("inspect", "-f", "{{.State.Status}}", "dd").stdout == "running\n"
    assert "sleep 1000" in run("top", "dd").stdout
    assert "CPU %" in run("stats", "--no-stream", "dd").stdout
    assert run("port", "dd").stdout.startswith("80/tcp -> 0.0.0.0:8090")
    (tmp_path / "f").write_text("copied")
    run("cp", str(tmp_path / "f"), "dd:/tmp/f")
    assert run("exec", "dd", "cat", "/tmp/f").stdout == "copied"
    assert "A /tmp/f" in run("diff", "dd").stdout
    run("pause", "dd")
    run("unpause", "dd")
    run("rename", "dd", "d2")
    run("update", "-m", "100m", "--memory-swap", "200m", "d2")
    run("commit", "d2", "committed:1")
    assert "committed" in run("images").stdout
    run("history", "committed:1")
    run("tag", "committed:1", "again:2")
    run("save", "-o", str(tmp_path / "i.tar"), "again:2")
    run("rmi", "committed:1", "again:2")
    run("load", "-i", str(tmp_path / "i.tar"))
    run("rmi", "again:2")
    run("restart", "-t", "0", "d2")
    run("stop", "-t", "0", "d2")
    assert run("wait", "d2").stdout == "137\n"
    run("start", "d2")
    run("kill", "d2")
    run("rm", "d2")
    run("volume", "rm", "dv")
    assert "bridge" in run("network", "ls").stdout
    assert "Server Version" in run("info").stdout
    assert "Images" in run("system", "df").stdout
    run("container", "prune", "-f")


def test_docker_py_runs_containers(client: docker.DockerClient) -> None:
    """Logs, attach, exec, archives, events and waiting work through the library."""
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    made = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="py")
    assert made.exec_run("echo in").output == b"in\n"
    assert made.exec_run(["sh", "-c", "exit 4"]).exit_code == 4
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("f")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"data"))
    assert made.put_archive("/tmp", data.getvalue())
    chunks, stat = made.get_archive("/tmp/f")
    assert stat["size"] == 4
    assert b"data" in b"".join(chunks)
    assert {"Path": "/tmp/f", "Kind": 1} in made.diff()
    assert made.top()["Processes"]
    assert made.stats(stream=False)["pids_stats"]["current"] >= 1
    made.stop(timeout=0)
    assert made.wait()["StatusCode"] == 137
    made.start()
    made.kill()
    made.remove()


def test_docker_py_sees_errors_as_dockers(client: docker.DockerClient) -> None:
    """The classes that scripts catch are raised."""
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nothing")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nothing:at-all")
    client.containers.create("busybox", name="twice")
    with pytest.raises(docker.errors.APIError, match="already in use"):
        client.containers.create("busybox", name="twice")


def test_events_are_streamed(client: docker.DockerClient) -> None:
    """The life of a container is told in Docker's words."""
    events = client.events(decode=True, filters={"container": "told"})
    client.containers.run("busybox", "true", name="told", remove=True)
    seen = []
    for event in events:
        seen.append(event["Action"])
        if event["Action"] == "destroy":
            break
    events.close()
    assert [a for a in seen if a in {"create", "start", "die", "destroy"}] == [
        "create",
        "start",
        "die",
        "destroy",
    ]
