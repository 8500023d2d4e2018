"""Contexts are docker's own: made, changed, moved and removed in the folder that it shares."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a user's settings, with no variable that leads elsewhere."""
    for name in ("PANNIER_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "PANNIER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(f"the {name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _keys(home: Path) -> str:
    return ",".join(f"{name}={home}/{name}.pem" for name in ("ca", "cert", "key"))


def test_a_context_with_keys(cli: Callable[..., Any], home: Path) -> None:
    """It is described as docker describes it; nobody else can read the keys."""
    made = cli("context", "create", "far", "--description", "d", "--docker",
               f"host=tcp://far:1,{_keys(home)}")  # fmt: skip
    assert made == (0, "far\n", 'Successfully created context "far"\n')
    [found] = json.loads(cli("context", "inspect", "far").out)
    assert list(found) == ["Name", "Metadata", "Endpoints", "TLSMaterial", "Storage"]
    assert found["Endpoints"] == {"docker": {"Host": "tcp://far:1", "SkipTLSVerify": False}}
    assert found["TLSMaterial"] == {"docker": ["ca.pem", "cert.pem", "key.pem"]}
    key = Path(found["Storage"]["TLSPath"]) / "docker/key.pem"
    assert key.read_text() == "the key"
    assert [path.stat().st_mode & 0o077 for path in (key, key.parent, key.parent.parent)] == [0] * 3
    assert cli("context", "rm", "far").status == 0
    assert not key.parent.parent.exists()


@pytest.mark.skipif(
    shutil.which("docker") is None, reason="needs docker: apt-get install docker.io"
)
def test_docker_reads_it(cli: Callable[..., Any], home: Path) -> None:
    """And what docker has packed is a context here."""

    def docker(*words: str) -> str:
        done = subprocess.run(
            ["docker", "context", *words], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    cli("context", "create", "far", "--docker", f"host=tcp://far:1,{_keys(home)}")
    ours = json.loads(cli("context", "inspect", "far").out)
    assert json.loads(docker("inspect", "far")) == ours
    docker("export", "far", str(home / "packed"))
    assert cli("context", "import", "near", str(home / "packed")).status == 0
    assert json.loads(docker("inspect", "near"))[0]["TLSMaterial"] == ours[0]["TLSMaterial"]
    cli("context", "export", "near", str(home / "ours"))
    docker("import", "again", str(home / "ours"))
    assert docker("ls", "-q").split() == cli("context", "ls", "-q").out.split()


def test_the_current_one(cli: Callable[..., Any], home: Path) -> None:
    """It is marked, is not removed unless forced, and leaves the default behind it."""
    cli("context", "create", "far", "--docker", "host=ssh://me@far")
    assert cli("context", "use", "far").err == 'Current context is now "far"\n'
    rows = cli("context", "ls").out.splitlines()
    assert rows[0].split() == ["NAME", "DESCRIPTION", "DOCKER", "ENDPOINT", "ERROR"]
    assert rows[1].split()[0] == "default"
    assert rows[2].split() == ["far", "*", "ssh://me@far"]
    assert "in use, set -f" in cli("context", "rm", "far").err
    assert cli("context", "rm", "-f", "far", "none") == (0, "far\nnone\n", "")
    assert cli("context", "show").out == "default\n"
    assert json.loads((home / "docker/config.json").read_text()) == {}


@pytest.mark.usefixtures("home")
def test_a_variable_that_overrides_it_is_told(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docker warns; one that is not there is shown as what it is."""
    cli("context", "create", "far", "--docker", "host=tcp://far")
    monkeypatch.setenv("DOCKER_HOST", "tcp://z")
    assert "DOCKER_HOST environment variable overrides" in cli("context", "use", "far").err
    listed = cli("context", "ls")
    assert "tcp://z:2375" in listed.out
    assert "DOCKER_HOST environment variable overrides" in listed.err
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    assert "nowhere * " in cli("context", "ls").out
    assert 'context "nowhere" does not exist' in cli("ps").err


def test_copies_and_changes(cli: Callable[..., Any], home: Path) -> None:
    """From another one, with its keys; a new endpoint replaces the old one and its keys."""
    cli("context", "create", "far", "--docker", f"host=tcp://far:1,{_keys(home)}")
    assert cli("context", "create", "two", "--from", "far").status == 0
    assert cli("context", "create", "three", "--docker", "from=far").status == 0
    assert cli("context", "create", "here").status == 0
    format = "{{.Endpoints.docker.Host}} {{len .TLSMaterial}} {{.Metadata.Description}}"
    cli("context", "update", "three", "--description", "third")
    assert cli("context", "inspect", "-f", format, "three").out == "tcp://far:1 1 third\n"
    cli("context", "update", "three", "--docker", "host=tcp://other,skip-tls-verify=true")
    assert cli("context", "inspect", "-f", format, "three").out == "tcp://other 0 third\n"
    assert "unix:///" in cli("context", "inspect", "here").out


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("create default --docker host=tcp://x", '"default" is a reserved context name'),
        ("create x --docker host=tcp://x", 'context name "x" is invalid'),
        ("create far --docker host=tcp://x", 'context "far" already exists'),
        ("create new --docker host=nonsense://x", "is not a daemon's address"),
        ("create new --docker ca=ca.pem", "needs a host"),
        ("create new --docker nonsense=1", "unrecognized config key: nonsense"),
        ("create new --docker nonsense", "must be formatted as key=value"),
        ("create new --docker host=tcp://x,ca=none", "open none: No such file"),
        ("create new --from far --docker host=tcp://x", "cannot use --docker flag when --from"),
        ("create new --from none", 'context "none" does not exist'),
        ("update none --description x", 'context "none" does not exist'),
        ("update default --description x", '"default" is a reserved context name'),
        ("rm default", 'context "default" cannot be removed'),
        ("rm none", 'context "none" does not exist'),
        ("export none", 'context "none" does not exist'),
        ("export far ca.pem", "open ca.pem: File exists"),
        ("import new none", "open none: No such file"),
        ("import new ca.pem", "no packed context"),
        ("import far ca.pem", 'context "far" already exists'),
        ("inspect none", 'context "none" does not exist'),
    ],
)
def test_refusals(cli: Callable[..., Any], words: str, said: str) -> None:
    """In docker's words; nothing is made."""
    cli("context", "create", "far", "--docker", "host=tcp://far")
    outcome = cli("context", *words.split())
    assert outcome.status in (1, 125)
    assert said in outcome.err
    assert cli("context", "ls", "-q").out == "default\nfar\n"


def test_packed_contexts_hold_nothing_else(cli: Callable[..., Any], home: Path) -> None:
    """No path leads out of the folder, no link, no flood; a zip file serves as well."""
    document = b'{"Name":"x","Endpoints":{"docker":{"Host":"tcp://x"}}}'

    def packed(*members: tuple[str, bytes, bytes]) -> str:
        with tarfile.open(home / "packed", "w") as archive:
            for name, kind, data in members:
                member = tarfile.TarInfo(name)
                member.type, member.size, member.linkname = kind, len(data), "/etc/passwd"
                archive.addfile(member, io.BytesIO(data))
        return str(home / "packed")

    meta = ("meta.json", tarfile.REGTYPE, document)
    for name, kind, data in (
        ("tls/docker/../../../x", tarfile.REGTYPE, b"x"),
        ("/etc/x", tarfile.REGTYPE, b"x"),
        ("tls/docker/ca.pem", tarfile.SYMTYPE, b""),
        ("tls/docker/ca.pem", tarfile.REGTYPE, b"x" * (11 << 20)),
    ):
        assert cli("context", "import", "bad", packed(meta, (name, kind, data))).status == 1
    assert cli("context", "import", "bad", packed()).status == 1
    deep = b"[" * 100_000
    assert cli("context", "import", "bad", packed(("meta.json", tarfile.REGTYPE, deep))).status == 1
    assert cli("context", "ls", "-q").out == "default\n"
    with zipfile.ZipFile(home / "zip", "w") as archive:
        archive.writestr("meta.json", document)
        archive.writestr("tls/docker/ca.pem", "the ca")
    assert cli("context", "import", "good", str(home / "zip")).status == 0
    assert "ca.pem" in cli("context", "inspect", "good").out


@pytest.mark.parametrize(
    ("place", "value"), [(6, 0x01), (8, 0x63), (30 + len("meta.json"), 0xFF)], ids="abc"
)
def test_a_zip_that_cannot_be_read(
    cli: Callable[..., Any], home: Path, place: int, value: int
) -> None:
    """One with a password, packed in another way, or damaged is refused, and nothing is made."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", b'{"Endpoints":{"docker":{"Host":"tcp://x"}}}')
    data = bytearray(made.getvalue())
    data[place] = value
    if place < 30:  # the central directory says it again, two bytes further on
        data[data.index(b"PK\x01\x02") + place + 2] = value
    (home / "zip").write_bytes(data)
    outcome = cli("context", "import", "bad", str(home / "zip"))
    assert outcome.status == 1
    assert "this is no packed context: " in outcome.err
    assert cli("context", "ls", "-q").out == "default\n"
