"""The daemon on TCP: with certificates, without, and by ssh."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.linux.namespaces import in_network_namespace
from support.daemon import Daemon, leftovers
from support.images import busybox_archive
from support.openssl import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

_PANNIER = str(Path(sys.executable).parent / "pannier")


class Hosts:
    """A daemon that listens on TCP, and how to reach it from its network namespace."""

    def __init__(self, daemon: Daemon, certificates: Path) -> None:
        self.daemon = daemon
        self.certificates = certificates

    def run(
        self, *arguments: str, input: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command line in the daemon's namespace."""
        assert self.daemon.process is not None
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DOCKER_", "PANNIER_"))
        }
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.daemon.process.pid}/ns/net", _PANNIER, *arguments],
            input=input,
            capture_output=True,
            timeout=60,
            env=clean | {"HOME": str(self.daemon.folder)} | (env or {}),
            check=False,
        )


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Return a daemon with mutual TLS on one port and a plain one on loopback."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    daemon = Daemon(
        engine=f'hosts = ["tcp://127.0.0.1:2375", "tcp://0.0.0.0:2376"]\n'
        f'tls_ca = "{folder}/ca.pem"\ntls_cert = "{folder}/server.pem"\n'
        f'tls_key = "{folder}/server-key.pem"\ninsecure_loopback = true\n'
    )
    try:
        daemon.start()
        archive = folder / "busybox.tar"
        archive.write_bytes(busybox_archive())
        daemon.cli("load", "-i", str(archive))
        # The all-zero address: on 127.0.0.1 the setting would have it served in the clear.
        yield Hosts(daemon, folder)
    finally:
        daemon.close()
    assert leftovers(daemon) == []


def test_tls_with_a_certificate(hosts: Hosts) -> None:
    """Docker's variables lead to it."""
    env = {
        "DOCKER_HOST": "tcp://127.0.0.1:2376",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(hosts.certificates),
    }
    result = hosts.run("version", "--format", "{{.Server.Version}}", env=env)
    assert result.returncode == 0, result.stderr
    data = os.urandom(3_000_000)
    result = hosts.run(
        "run", "-i", "--rm", "--network", "none", "busybox", "cat", input=data, env=env
    )
    assert (result.returncode, result.stdout == data) == (0, True), result.stderr
    result = hosts.run(
        "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo on; echo err >&2; exit 3",
        env=env,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (3, b"on\n", b"err\n")


def test_the_flags_of_tls(hosts: Hosts) -> None:
    """Name the files one by one."""
    folder = hosts.certificates
    result = hosts.run(
        "-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", f"{folder}/ca.pem",
        "--tlscert", f"{folder}/cert.pem", "--tlskey", f"{folder}/key.pem", "ps", "-q",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("", "", "certificate required"),
        ("other-cert", "other-key", "unknown ca"),
        ("old-cert", "old-key", "certificate expired"),
    ],
)
def test_strangers_are_refused(hosts: Hosts, certificate: str, key: str, why: str) -> None:
    """Who shows no certificate, one of another authority, or an old one, is told why."""
    folder = hosts.certificates
    own = [] if not key else [
        "--tlscert", f"{folder}/{certificate}.pem", "--tlskey", f"{folder}/{key}.pem"
    ]  # fmt: skip
    result = hosts.run(
        "-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", f"{folder}/ca.pem",
        *own, "ps",
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, b"")
    assert f"it refuses this client: {why}" in result.stderr.decode()


def test_a_daemon_that_is_not_known_is_refused(hosts: Hosts) -> None:
    """The client checks who answers."""
    folder = hosts.certificates
    result = hosts.run(
        "-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", f"{folder}/other-ca.pem",
        "--tlscert", f"{folder}/cert.pem", "--tlskey", f"{folder}/key.pem", "ps",
    )  # fmt: skip
    assert b"not trusted" in result.stderr


def test_who_takes_the_port_for_another_kind_is_told(hosts: Hosts) -> None:
    """In the clear only that it is no such port, in the words that docker's users know."""
    result = hosts.run("-H", "tcp://127.0.0.1:2376", "ps")
    assert result.returncode == 1
    assert b"Client sent an HTTP request to an HTTPS server." in result.stderr
    result = hosts.run("-H", "tcp://127.0.0.1:2375", "--tls", "ps")
    assert result.returncode == 1
    assert b"it does not speak TLS" in result.stderr


def test_loopback_in_the_clear(hosts: Hosts) -> None:
    """Where it was asked for; but not for pages of the web, whose origin is never our address."""
    result = hosts.run("-H", "tcp://127.0.0.1:2375", "run", "-i", "--rm", "--network", "none",
                       "busybox", "cat", input=b"hi\n")  # fmt: skip
    assert (result.returncode, result.stdout) == (0, b"hi\n"), result.stderr
    assert hosts.daemon.process is not None
    for origin, status in (
        ("http://evil", 403),
        ("http://evil:2375", 403),
        ("http://localhost:2375", 403),
        ("http://127.0.0.1:80", 403),
        ("null", 403),
        ("http://127.0.0.1:2375", 200),  # as a library for websockets says of itself
    ):
        ask = (
            "import socket; s = socket.create_connection(('127.0.0.1', 2375)); "
            f"s.sendall(b'GET /version HTTP/1.0\\r\\nOrigin: {origin}\\r\\n\\r\\n'); "
            "print(s.recv(200).split(b'\\r\\n')[0].decode())"
        )
        command = ["nsenter", f"--net=/proc/{hosts.daemon.process.pid}/ns/net", sys.executable]
        done = subprocess.run(
            [*command, "-c", ask], capture_output=True, text=True, check=True, timeout=30
        )
        assert f" {status} " in done.stdout, origin


def test_a_client_that_says_nothing_holds_nobody_up(hosts: Hosts) -> None:
    """Others are served while it keeps its handshake open."""
    assert hosts.daemon.process is not None
    descriptor = os.open(f"/proc/{hosts.daemon.process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with in_network_namespace(descriptor):
            silent = [socket.create_connection(("127.0.0.1", 2376)) for _ in range(300)]
    finally:
        os.close(descriptor)
    try:
        test_the_flags_of_tls(hosts)
    finally:
        for one in silent:
            one.close()


def test_by_ssh(hosts: Hosts, tmp_path: Path) -> None:
    """The system's ssh is run with the right words, and what it carries works."""
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" > {tmp_path}/words\n'
        'while [ "$1" != -- ]; do shift; done; shift 3\n'
        f'exec {_PANNIER} -H unix://{hosts.daemon.socket} "$@"\n'
    )
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    result = hosts.run(
        "-H", "ssh://me@far:2222", "run", "-i", "--rm", "--network", "none", "busybox", "cat",
        input=b"over\n", env={"PATH": path},
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, b"over\n"), result.stderr
    words = (tmp_path / "words").read_text()
    assert "-l me -p 2222 -- far pannier system dial-stdio" in words


def test_by_context(hosts: Hosts, tmp_path: Path) -> None:
    """Docker's context files lead to the daemon, by their name or as the current one."""
    digest = hashlib.sha256(b"far").hexdigest()
    meta = tmp_path / "contexts/meta" / digest
    keys = tmp_path / "contexts/tls" / digest / "docker"
    meta.mkdir(parents=True)
    keys.mkdir(parents=True)
    endpoint = {"Host": "tcp://127.0.0.1:2376", "SkipTLSVerify": False}
    document = {"Name": "far", "Metadata": {"Description": "d"}, "Endpoints": {"docker": endpoint}}
    (meta / "meta.json").write_text(json.dumps(document))
    for name in ("ca", "cert", "key"):
        (keys / f"{name}.pem").write_bytes((hosts.certificates / f"{name}.pem").read_bytes())
    config = {"DOCKER_CONFIG": str(tmp_path)}
    (tmp_path / "config.json").write_text('{"auths": {"x": {}}}')
    ways: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("--context", "far", "version", "--format", "{{.Server.Version}}"), {}),
        (("version", "--format", "{{.Server.Version}}"), {"DOCKER_CONTEXT": "far"}),
    ]
    for arguments, env in ways:
        result = hosts.run(*arguments, env=config | env)
        assert result.returncode == 0, result.stderr
    assert hosts.run("context", "show", env=config).stdout == b"default\n"
    assert hosts.run("context", "use", "far", env=config).returncode == 0
    assert hosts.run("context", "show", env=config).stdout == b"far\n"
    assert b"far *" in hosts.run("context", "ls", env=config).stdout
    assert hosts.run("ps", "-q", env=config).returncode == 0
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved == {"auths": {"x": {}}, "currentContext": "far"}
    assert b"does not exist" in hosts.run("context", "use", "near", env=config).stderr
    assert hosts.run("context", "use", "default", env=config).returncode == 0
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {"x": {}}}
