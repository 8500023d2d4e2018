"""The clients that people have, against the server: docker-py and the docker command."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING, Any

import docker
import pytest

from pannier.errors import StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.api_server import ApiServer
    from support.fake_engine import FakeEngine

OUTPUT = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"


def archive(name: str, data: bytes) -> bytes:
    """Return a tar archive of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


# docker-py leaves hijacked connections for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestDockerPy:
    """docker-py, as it is installed."""

    @pytest.fixture
    def client(self, server: ApiServer) -> Iterator[Any]:
        """Return a docker-py client of the server."""
        client = docker.DockerClient(base_url=server.url, version="auto", timeout=10)
        yield client
        client.close()

    def test_life_of_a_container(self, client: Any, engine: FakeEngine) -> None:
        """Create, start, look, wait, read the logs, remove."""
        made = client.containers.create(
            "busybox",
            ["sh", "-c", "true"],
            name="web",
            ports={"80/tcp": 8080},
            volumes={"/tmp": {"bind": "/x", "mode": "ro"}},
            mem_limit="64m",
            environment={"A": "b"},
            labels={"k": "v"},
        )
        assert made.status == "created"
        made.start()
        made.reload()
        assert made.status == "running"
        assert made.attrs["HostConfig"]["Memory"] == 64 << 20
        assert made.ports == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
        assert [one.name for one in client.containers.list()] == ["web"]
        assert made.logs() == b"hello\noops\n"
        assert made.logs(stdout=False, timestamps=True).endswith(b"oops\n")
        assert made.top()["Titles"] == ["PID", "CMD"]
        assert made.stats(stream=False)["cpu_stats"]["online_cpus"] == 2
        made.stop(timeout=1)
        assert made.wait() == {"StatusCode": 137}
        made.remove()
        assert engine.containers.known == {}
        with pytest.raises(docker.errors.NotFound, match="No such container: web"):
            client.containers.get("web")

    def test_run(self, client: Any, engine: FakeEngine) -> None:
        """Run waits and returns what was written."""
        engine.containers.script = (b"", 0)
        assert client.containers.run("busybox", "true", stderr=True) == b"hello\noops\n"
        engine.containers.script = (b"", 3)
        with pytest.raises(docker.errors.ContainerError, match="non-zero exit status 3"):
            client.containers.run("busybox", "false")

    def test_exec(self, client: Any, server: ApiServer, engine: FakeEngine) -> None:
        """An exec's output and exit code, and its socket for input."""
        container = client.containers.run("busybox", "sleep", detach=True, name="web")
        engine.containers.start_error = None
        id = client.api.exec_create(container.id, ["cat"], stdin=True)["Id"]
        sock = client.api.exec_start(id, socket=True)
        server.run(engine.execs.shim.attached.wait())
        side = engine.execs.shim.connections[0]
        side.settimeout(60)
        sock._sock.sendall(b"hi")
        assert side.recv(10) == b"hi"
        side.sendall(OUTPUT)
        server.call(engine.execs.finish, id, 4)
        assert b"".join(iter(lambda: sock.read(100), b"")) == OUTPUT
        assert client.api.exec_inspect(id)["ExitCode"] == 4
        sock.close()

    def test_attach_socket(self, client: Any, server: ApiServer, engine: FakeEngine) -> None:
        """An attached socket speaks with the process."""
        container = client.containers.run("busybox", "cat", detach=True, name="web")
        sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        shim = engine.containers.shims[container.id]
        server.run(shim.attached.wait())
        shim.connections[0].settimeout(60)
        sock._sock.sendall(b"in")
        assert shim.connections[0].recv(10) == b"in"
        sock.close()

    def test_files(self, client: Any, engine: FakeEngine) -> None:
        """Archives in and out."""
        container = client.containers.create("busybox", name="web")
        engine.containers.archive = archive("a", b"data")
        stream, stat = container.get_archive("/a")
        assert b"".join(stream) == engine.containers.archive
        assert stat["size"] == 5
        assert container.put_archive("/", archive("b", b"more"))
        assert engine.containers.uploads == [archive("b", b"more")]
        assert b"".join(container.export()) == b"tar" * 10
        assert container.diff()[1] == {"Path": "/new", "Kind": 1}

    def test_images_volumes_networks(self, client: Any) -> None:
        """The other resources."""
        assert client.images.list()[0].tags == ["busybox:latest"]
        image = client.images.get("busybox")
        assert image.history()[0]["CreatedBy"] == "ADD layer"
        assert image.tag("x", "y")
        assert b"".join(image.save(named=True)).startswith(b"busybox")
        assert client.images.load(b"tar")[0].id == image.id
        client.images.remove("busybox")
        volume = client.volumes.create("data", labels={"a": "b"})
        assert client.volumes.get("data").attrs["Mountpoint"] == "/v/data"
        volume.remove()
        network = client.networks.create(
            "lan",
            ipam=docker.types.IPAMConfig(
                pool_configs=[docker.types.IPAMPool(subnet="10.9.0.0/24", gateway="10.9.0.1")]
            ),
        )
        container = client.containers.create("busybox", name="web")
        network.connect(container, aliases=["db"], ipv4_address="10.9.0.5")
        network.disconnect(container)
        network.remove()
        assert client.containers.prune()["ContainersDeleted"] == [container.id]

    def test_system(self, client: Any, server: ApiServer, engine: FakeEngine) -> None:
        """Ping, info, disk usage, events."""
        assert client.ping()
        assert client.info()["NCPU"] == 2
        assert client.version()["ApiVersion"] == "1.51"
        assert client.df()["LayersSize"] == 2_000_000
        events = client.events(decode=True)
        server.call(engine.publish, "volume", "create", "data", {"driver": "local"})
        assert next(events)["Actor"]["ID"] == "data"
        events.close()


DOCKER = shutil.which("docker")


@pytest.mark.skipif(DOCKER is None, reason="needs the docker client (Debian: docker.io)")
class TestDockerCommand:
    """The docker command, where there is one."""

    def docker(
        self, server: ApiServer, *arguments: str, input: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a docker command."""
        assert DOCKER is not None
        return subprocess.run(
            [DOCKER, *arguments],
            env={"DOCKER_HOST": server.url, "PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            input=input,
            capture_output=True,
            check=False,
            timeout=20,
        )

    def text(self, server: ApiServer, *arguments: str) -> str:
        """Run a docker command that succeeds, and return what it printed."""
        done = self.docker(server, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def test_run(self, server: ApiServer, engine: FakeEngine) -> None:
        """Output and errors are told apart, and the exit status is the process's."""
        engine.containers.script = (OUTPUT, 7)
        done = self.docker(server, "run", "--rm", "--name", "web", "busybox", "x")
        assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
        assert engine.containers.known == {}

    def test_run_what_cannot_execute(self, server: ApiServer, engine: FakeEngine) -> None:
        """127 for what is not found, 126 for what may not be executed, 125 for all else."""
        for error, status in (
            (StartFailed('exec: "x": executable file not found in $PATH', errno=2), 127),
            (StartFailed('exec: "x": permission denied', errno=13), 126),
            (StartFailed("no idea", errno=5), 125),
        ):
            engine.containers.start_error = error
            done = self.docker(server, "run", "--rm", "busybox", "x")
            assert done.returncode == status
            assert error.message.encode() in done.stderr

    def test_tables(self, server: ApiServer, running: str) -> None:
        """What the lists show."""
        assert running[:12] in self.text(server, "ps", "--format", "{{.ID}} {{.Status}}")
        assert "busybox" in self.text(server, "images")
        assert "bridge" in self.text(server, "network", "ls")
        assert self.text(server, "volume", "create", "data") == "data\n"
        assert "data" in self.text(server, "volume", "ls")
        assert "Server Version" in self.text(server, "info")
        assert "Images" in self.text(server, "system", "df")
        assert "ADD layer" in self.text(server, "history", "busybox")
        assert self.text(server, "diff", "web") == "C /etc\nA /new\nD /old\n"
        assert "sh" in self.text(server, "top", "web")
        assert self.text(server, "inspect", "--format", "{{.State.Status}}", "web") == "running\n"
        stats = self.text(server, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web")
        assert stats == "web 2\n"

    def test_exec(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """A process that cannot run is told of, with its status."""
        assert running
        done = self.docker(server, "exec", "web", "nope")
        assert done.returncode == 127
        assert b"executable file not found in $PATH" in done.stderr + done.stdout
        assert engine.execs.calls

    def test_logs_wait_events(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """Streams that end."""
        done = self.docker(server, "logs", "web")
        assert (done.stdout, done.stderr) == (b"hello\n", b"oops\n")
        server.call(engine.containers.finish, running, 5)
        assert self.text(server, "wait", "web") == "5\n"
        until = str(int(time.time()) + 1)
        events = self.text(server, "events", "--since", "0", "--until", until)
        assert "container create" in events

    def test_files_and_archives(
        self, server: ApiServer, engine: FakeEngine, running: str, tmp_path: Path
    ) -> None:
        """Copies, loads, saves, imports, exports, commits."""
        assert running
        engine.containers.archive = archive("passwd", b"root\n!")
        target = tmp_path / "passwd"
        self.text(server, "cp", "web:/etc/passwd", str(target))
        assert target.read_bytes() == b"root\n!"
        self.text(server, "cp", str(target), "web:/etc/passwd")
        assert engine.containers.uploads
        loaded = self.docker(server, "load", input=b"tar")
        assert loaded.stdout == b"Loaded image: busybox:latest\n"
        saved = self.docker(server, "save", "busybox")
        assert saved.stdout == b"busybox" * 100_000
        imported = self.docker(server, "import", "-", "deb:12", input=b"root")
        assert imported.stdout.decode().strip() == engine.images.image.id
        assert self.docker(server, "export", "web").stdout == b"tar" * 10
        assert self.text(server, "commit", "web", "new:1").startswith("sha256:")

    def test_what_is_not_there(self, server: ApiServer) -> None:
        """Docker's own words reach the user."""
        done = self.docker(server, "inspect", "nope")
        assert done.returncode == 1
        assert b"No such object: nope" in done.stderr
        assert b"not a swarm manager" in self.docker(server, "node", "ls").stderr
        assert b"pull access denied" in self.docker(server, "pull", "absent").stderr
