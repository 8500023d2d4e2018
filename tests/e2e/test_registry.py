"""A registry beside the daemon: pull, push, log in and search, with every client."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import pytest

from support.registry import BCRYPT, PASSWORD, USER, debian_registry, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.daemon import Daemon


def inside(daemon: Daemon) -> list[str]:
    """Return the words that put a command into the daemon's network namespace."""
    assert daemon.process is not None
    return ["nsenter", f"--net=/proc/{daemon.process.pid}/ns/net"]


@pytest.fixture
def registry(daemon: Daemon, tmp_path: Path) -> Iterator[str]:
    """Run a registry on the daemon's loopback."""
    with debian_registry(
        tmp_path / "registry", inside=inside(daemon), entered=daemon.inside
    ) as host:
        yield host
    _forget(daemon, host)


@pytest.fixture
def private(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run one that wants a password; credentials are kept in a folder of the test's own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    users = tmp_path / "users"
    users.write_text(f"{USER}:{BCRYPT}\n")
    auth = f"  htpasswd: {{realm: tests, path: {users}}}"
    with debian_registry(
        tmp_path / "registry", auth=auth, inside=inside(daemon), entered=daemon.inside
    ) as host:
        yield host
    _forget(daemon, host)


def _forget(daemon: Daemon, host: str) -> None:
    names = daemon.cli(
        "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={host}/*/*"
    ).stdout.split()
    for name in names:
        daemon.cli("rmi", "-f", name, check=False)


def identity(daemon: Daemon, name: str = "busybox") -> str:
    """Return an image's id."""
    return str(daemon.inspect(name)["Id"])


def client_of(daemon: Daemon, name: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return our command line or Docker's, which may be missing here."""
    if name == "docker":
        needs("docker", "docker.io")
        return daemon.docker
    return daemon.cli


def clients(daemon: Daemon) -> list[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return the command lines that are here: ours, and Docker's where it is installed."""
    return [daemon.cli, *([daemon.docker] if shutil.which("docker") else [])]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder with a short path, as podman demands for its own."""
    folder = Path(tempfile.mkdtemp(prefix="pm-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class TestCommands:
    """The command line, ours and Docker's."""

    @pytest.mark.parametrize("client", ["pannier", "docker"])
    def test_push_remove_pull_run(self, daemon: Daemon, registry: str, client: str) -> None:
        """What was pushed comes back, and runs."""
        command = client_of(daemon, client)
        name = f"{registry}/team/busybox:{client}"
        known = identity(daemon)
        command("tag", "busybox", name)
        pushed = command("push", name).stdout
        assert f"The push refers to repository [{registry}/team/busybox]" in pushed
        digest = pushed.rpartition("digest: ")[2].split()[0]
        assert digest.startswith("sha256:")
        command("rmi", name)
        pulled = command("pull", name).stdout
        assert f"Digest: {digest}" in pulled
        assert f"Downloaded newer image for {name}" in pulled
        assert pulled.splitlines()[-1] == name
        assert f"Image is up to date for {name}" in command("pull", name).stdout
        assert identity(daemon, name) == known
        assert daemon.inspect(name)["RepoDigests"] == [f"{registry}/team/busybox@{digest}"]
        assert command("run", "--rm", name, "echo", "hello").stdout == "hello\n"
        assert command("pull", "-q", f"{registry}/team/busybox@{digest}").returncode == 0

    def test_all_tags(self, daemon: Daemon, registry: str) -> None:
        """Up and down."""
        repository = f"{registry}/team/many"
        for tag in ("1", "2"):
            daemon.cli("tag", "busybox", f"{repository}:{tag}")
        daemon.cli("push", "-a", repository)
        daemon.cli("rmi", f"{repository}:1", f"{repository}:2")
        out = daemon.cli("pull", "-a", repository).stdout
        assert out.count("Digest: sha256:") == 2
        tags = daemon.cli("images", "--format", "{{.Tag}}", repository).stdout.split()
        assert sorted(tags) == ["1", "2"]

    def test_pull_always_missing_never(self, daemon: Daemon, registry: str) -> None:
        """``run --pull``."""
        name = f"{registry}/team/box:1"
        daemon.cli("tag", "busybox", name)
        daemon.cli("push", name)
        daemon.cli("rmi", name)
        refused = daemon.cli("run", "--rm", "--pull", "never", name, "true", check=False)
        assert (refused.returncode, "No such image" in refused.stderr) == (125, True)
        missing = daemon.cli("run", "--rm", name, "echo", "there")
        assert missing.stdout == "there\n"
        assert f"Unable to find image '{name}' locally" in missing.stderr
        assert "Status:" not in daemon.cli("run", "--rm", name, "true").stderr
        always = daemon.cli("run", "--rm", "--pull", "always", name, "true")
        assert "Image is up to date" in always.stderr

    def test_what_is_not_there(self, daemon: Daemon, registry: str) -> None:
        """Docker's words, for both clients."""
        words = f"manifest for {registry}/no/thing:latest not found: manifest unknown"
        for command in clients(daemon):
            done = command("pull", f"{registry}/no/thing", check=False)
            assert (done.returncode, words in done.stderr) == (1, True)

    def test_search(self, daemon: Daemon, registry: str) -> None:
        """In the catalog, where there is no search API; filters and formats."""
        for name in ("team/apple", "team/pear"):
            daemon.cli("tag", "busybox", f"{registry}/{name}:1")
            daemon.cli("push", f"{registry}/{name}:1")
        form = ("--format", "{{.Name}}")
        assert daemon.cli("search", *form, f"{registry}/app").stdout == f"{registry}/team/apple\n"
        both = daemon.cli("search", *form, f"{registry}/team").stdout.split()
        assert both == [f"{registry}/team/apple", f"{registry}/team/pear"]
        limited = daemon.cli("search", "--limit", "1", *form, f"{registry}/team").stdout.split()
        assert len(limited) == 1
        starred = daemon.cli("search", "-f", "stars=1", *form, f"{registry}/team").stdout
        assert starred == ""

    def test_interrupted(self, daemon: Daemon, registry: str) -> None:
        """Ctrl-C ends the transfer; the next one has what came."""
        name = f"{registry}/team/big:1"
        made = daemon.cli(
            *("run", "-d", "busybox", "sh", "-c"), "head -c 60000000 /dev/urandom > /big"
        ).stdout.strip()
        daemon.cli("wait", made)
        daemon.cli("commit", made, name)
        daemon.cli("push", name)
        daemon.cli("rmi", name)
        with subprocess.Popen(
            [str(Path(sys.executable).with_name("pannier")), "pull", name],
            env={**os.environ, "PANNIER_HOST": daemon.host},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as client:
            assert client.stdout is not None
            client.stdout.readline()
            client.send_signal(signal.SIGINT)
            client.wait(10)
        assert daemon.cli("pull", name).returncode == 0
        ingest = daemon.folder / "root" / "images" / "ingest"
        assert list(ingest.iterdir()) == []


class TestLogIn:
    """Credentials of the user's."""

    @pytest.mark.parametrize("client", ["pannier", "docker"])
    def test_log_in_and_out(self, daemon: Daemon, private: str, client: str) -> None:
        """With it there is a pull; without it there is none, however it is forgotten."""
        command = client_of(daemon, client)
        name = f"{private}/team/secret:1"
        daemon.cli("tag", "busybox", name)
        denied = command("push", name, check=False)
        assert denied.returncode == 1
        assert "authentication required" in denied.stderr
        wrong = command(
            "login", "-u", USER, "--password-stdin", private, input="wrong", check=False
        )
        assert wrong.returncode == 1
        done = command("login", "-u", USER, "--password-stdin", private, input=PASSWORD + "\n")
        assert "Login Succeeded" in done.stdout
        # What one client keeps, the other finds.
        for other in clients(daemon):
            other("push", name)
            other("pull", name)
        command("logout", private)
        refused = daemon.cli("pull", name, check=False)
        assert refused.returncode == 1
        assert f"pull access denied for {private}/team/secret" in refused.stderr

    def test_a_credential_helper(
        self, daemon: Daemon, private: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program keeps the password; the file does not have it."""
        kept = tmp_path / "kept.json"
        helper = tmp_path / "bin" / "docker-credential-test"
        helper.parent.mkdir()
        helper.write_text(
            "#!/bin/sh\n"
            f'case "$1" in store) cat > {kept};; erase) rm -f {kept};;\n'
            f"get) cat > /dev/null; if [ -e {kept} ]; then cat {kept};"
            ' else echo "credentials not found in native keychain"; exit 1; fi;; esac\n'
        )
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
        folder = tmp_path / "docker"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"credHelpers": {private: "test"}}))
        daemon.cli("login", "-u", USER, "--password-stdin", private, input=PASSWORD)
        assert json.loads(kept.read_text())["Username"] == USER
        assert "auths" not in json.loads((folder / "config.json").read_text())
        name = f"{private}/team/secret:1"
        daemon.cli("tag", "busybox", name)
        daemon.cli("push", name)
        daemon.cli("logout", private)
        assert not kept.exists()
        assert daemon.cli("pull", name, check=False).returncode == 1


class TestClients:
    """Other programs."""

    def test_docker_py(self, daemon: Daemon, registry: str) -> None:
        """Its streams, and its errors."""
        with contextlib.closing(docker.DockerClient(base_url=daemon.host)) as client:
            image = client.images.get("busybox")
            image.tag(f"{registry}/py/busybox", "1")
            lines: list[dict[str, Any]] = list(
                client.images.push(f"{registry}/py/busybox", "1", stream=True, decode=True)
            )
            aux = next(line["aux"] for line in lines if "aux" in line)
            assert aux["Tag"] == "1"
            client.images.remove(f"{registry}/py/busybox:1")
            pulled = client.images.pull(f"{registry}/py/busybox", tag="1")
            assert pulled.id == image.id
            data = client.images.get_registry_data(f"{registry}/py/busybox:1")
            assert data.id == aux["Digest"]
            assert data.has_platform("linux/amd64")
            with pytest.raises(docker.errors.NotFound, match="manifest unknown"):
                client.images.pull(f"{registry}/py/busybox", tag="nope")

    def test_skopeo_and_podman(
        self, daemon: Daemon, registry: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What we push they read; what they push we run."""
        needs("skopeo", "skopeo")
        needs("podman", "podman")
        name = f"{registry}/team/shared:1"
        daemon.cli("tag", "busybox", name)
        daemon.cli("push", name)
        plain = ("--tls-verify=false",)
        folders = ("--root", str(short_folder / "pm"), "--runroot", str(short_folder / "pmr"))
        config = short_folder / "containers.conf"
        config.write_text('[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n')
        monkeypatch.setenv("CONTAINERS_CONF", str(config))
        podman = [*inside(daemon), "podman", *folders]
        try:
            subprocess.run([*podman, "pull", *plain, name], check=True, capture_output=True)
            done = subprocess.run(
                [*podman, "inspect", "--format", "{{.Id}}", name], check=True, capture_output=True
            )
            assert f"sha256:{done.stdout.decode().strip()}" == identity(daemon)
            theirs = f"{registry}/team/podman:1"
            subprocess.run([*podman, "tag", name, theirs], check=True, capture_output=True)
            subprocess.run([*podman, "push", *plain, theirs], check=True, capture_output=True)
        finally:
            subprocess.run([*podman, "rmi", "-af"], check=False, capture_output=True)
        copied = f"{registry}/team/skopeo:1"
        subprocess.run(
            [
                *(*inside(daemon), "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"),
                *("--dest-tls-verify=false", f"docker://{name}", f"docker://{copied}"),
            ],
            check=True,
            capture_output=True,
        )
        for one in (theirs, copied):
            assert daemon.cli("run", "--rm", one, "echo", "works").stdout == "works\n"

    def test_many_at_once(self, daemon: Daemon, registry: str) -> None:
        """Eight pulls of one image: one image."""
        name = f"{registry}/team/crowd:1"
        daemon.cli("tag", "busybox", name)
        daemon.cli("push", name)
        daemon.cli("rmi", name)
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(daemon.cli("pull", name).returncode))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == [0] * 8


class TestKilled:
    """A daemon that dies while it pulls."""

    def test_the_next_one_goes_on(self, own_daemon: Daemon, tmp_path: Path) -> None:
        """With what came, and without leaving anything in the end."""
        daemon = own_daemon
        folder = tmp_path / "registry"
        with debian_registry(folder, inside=inside(daemon), entered=daemon.inside) as host:
            name = f"{host}/team/big:1"
            made = daemon.cli(
                *("run", "-d", "busybox", "sh", "-c"), "head -c 90000000 /dev/urandom > /big"
            ).stdout.strip()
            daemon.cli("wait", made)
            daemon.cli("commit", made, name)
            daemon.cli("push", name)
            daemon.cli("rm", made)
            daemon.cli("rmi", name)
            ingest = daemon.folder / "root" / "images" / "ingest"
            seen = threading.Event()

            def pull() -> None:
                daemon.cli("pull", name, check=False)
                seen.set()

            thread = threading.Thread(target=pull)
            thread.start()
            while not seen.is_set() and not any(
                path.stat().st_size > 5_000_000 for path in _present(ingest)
            ):
                seen.wait(0.002)
            daemon.kill()
            thread.join(20)
            daemon.start()
            assert all(path.name.startswith("partial-") for path in ingest.iterdir())
            assert daemon.cli("pull", name).returncode == 0
            assert list(ingest.iterdir()) == []
            size = "wc -c < /big"
            assert daemon.cli("run", "--rm", name, "sh", "-c", size).stdout == "90000000\n"


def _present(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.exists()]
