"""The command line's side of a build: what is packed, and how it is shown."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import tarfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pannier.build.ignore import IgnoreRules
from pannier.cli.buildsecrets import read_secret
from pannier.cli.buildview import BuildError, show_build
from pannier.cli.command import UsageError
from pannier.cli.contexttar import pack_context
from pannier.cli.credentials import config_header
from pannier.errors import PannierError
from pannier.server.build import credentials_of

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.server.call import Call

STREAM = [
    "Step 1/3 : FROM busybox AS one\n",
    " ---> c1a971b5ba40\n",
    "Step 2/3 : RUN echo hi\n",
    " ---> Running in 894672d0a1c2\n",
    "hi\n",
    "10%\r100%\nlast",
    "Removing intermediate container 894672d0a1c2\n",
    " ---> 45d8617c7866\n",
    "Step 3/3 : COPY . .\n",
    " ---> Using cache\n",
    " ---> 58abbbe138d9\n",
    "Successfully built 58abbbe138d9\n",
]
MESSAGES: list[dict[str, object]] = [{"stream": text} for text in STREAM]
FAILURE: dict[str, object] = {
    "errorDetail": {"message": "boom", "code": 7},
    "error": "boom",
    "hint": "Dockerfile:3",
}


def packed(folder: Path, rules: str | None = None) -> dict[str, tarfile.TarInfo]:
    """Return the members of a packed context."""
    data = b"".join(pack_context(str(folder), None if rules is None else IgnoreRules(rules)))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


def test_files_of_all_kinds_are_packed_as_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With modes, times and links; sockets are left out."""
    (tmp_path / "file").write_bytes(b"x" * 1000)
    (tmp_path / "file").chmod(0o640)
    os.utime(tmp_path / "file", (1_600_000_000, 1_600_000_000.25))
    os.link(tmp_path / "file", tmp_path / "hard")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dir").mkdir(0o750)
    (tmp_path / ("n" * 150)).write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        listening.bind("socket")
        found = packed(tmp_path)
    assert set(found) == {"file", "hard", "link", "dir", "n" * 150, "fifo"}
    assert (found["file"].mode, found["file"].size, found["file"].mtime) == (
        *(0o640, 1000),
        1_600_000_000.25,
    )
    assert (found["file"].uid, found["file"].uname) == (0, "")
    assert (found["hard"].type, found["hard"].linkname) == (tarfile.LNKTYPE, "file")
    assert found["link"].linkname == "file"
    assert found["dir"].isdir()
    assert found["fifo"].isfifo()


def test_ignored_folders_are_not_read(tmp_path: Path) -> None:
    """Unless a rule takes something in them back."""
    for name in ("skip/a", "skip/deep/keep", "other/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(packed(tmp_path, "skip")) == {"other", "other/b"}
    assert set(packed(tmp_path, "skip\n!skip/deep")) == {
        *("other", "other/b", "skip/deep", "skip/deep/keep"),
    }


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that vanishes while it is packed."""
    (tmp_path / "a").write_bytes(b"x" * (2 << 20))
    (tmp_path / "b").write_text("x")
    pieces = pack_context(str(tmp_path), None)
    next(pieces)
    (tmp_path / "b").unlink()
    with pytest.raises(PannierError, match=r"cannot read .*/b"):
        list(pieces)


def test_plain_output_is_dockers() -> None:
    """Every text as it came; the id is the last one told."""
    out = io.StringIO()
    ids: list[dict[str, object]] = [{"aux": {"ID": f"sha256:{number}"}} for number in (1, 2)]
    messages = [*MESSAGES, *ids]
    assert show_build(messages, style="plain", out=out) == "sha256:2"
    assert out.getvalue() == "".join(STREAM)


def test_a_tree_has_a_branch_for_each_step() -> None:
    """With its output below, and what it took or that it was cached behind."""
    out = io.StringIO()
    show_build(MESSAGES, style="tree", out=out)
    lines = out.getvalue().splitlines()
    assert "● FROM busybox AS one" in lines[0]
    assert lines[1] == "├─ 2/3 RUN echo hi"
    assert ["hi" in lines[2], "100%" in lines[3], "last" in lines[4]] == [True] * 3
    assert "10%\r" not in out.getvalue()
    assert lines[6].startswith("├─ 3/3 COPY . .")
    assert "cached" in lines[6]
    assert lines[7] == STREAM[-1].strip()


def test_a_quiet_build_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """Until it fails: then it says what led there."""
    out = io.StringIO()
    image = f"sha256:{'0' * 64}"
    assert show_build([{"stream": f"{image}\n"}], style="quiet", out=out) == image
    assert out.getvalue() == ""
    with pytest.raises(BuildError):
        show_build([{"stream": "what led there\n"}, FAILURE], style="quiet", out=out)
    assert "what led there" in capsys.readouterr().err


@pytest.mark.parametrize("style", ["plain", "tree", "quiet"])
def test_a_failure_has_the_status_of_its_command(style: str) -> None:
    """And the line of the Dockerfile as its hint."""
    with pytest.raises(BuildError) as caught:
        show_build([*MESSAGES[:5], FAILURE], style=style, out=io.StringIO())
    error = caught.value
    assert (error.message, error.code, error.hint) == ("boom", 7, "Dockerfile:3")


def test_log_ins_go_with_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every registry in the file, under the names that the daemon looks them up by."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert config_header() == {}
    auth = base64.b64encode(b"me:secret").decode()
    hub, own = "https://index.docker.io/v1/", "registry.example:5000"
    document = {"auths": {hub: {"auth": auth}, own: {"auth": auth}, "empty.example": {}}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    call = SimpleNamespace(request=SimpleNamespace(headers=config_header()))
    found = credentials_of(cast("Call", call))
    assert set(found) == {"docker.io", own}
    assert (found[own].username, found[own].password) == ("me", "secret")
    call = SimpleNamespace(request=SimpleNamespace(headers={"X-Registry-Config": "no JSON"}))
    assert credentials_of(cast("Call", call)) == {}


class TestSecrets:
    """What --secret names."""

    @pytest.mark.parametrize(
        ("spec", "data"),
        [
            ("id=a,src=file", b"of a file"),
            ("id=a,source=file,type=file", b"of a file"),
            ('id=a,"src=with,comma"', b"comma"),
            ("id=a,env=TOKEN", b"of a variable \xff"),
            ("id=a,type=env,env=TOKEN", b"of a variable \xff"),
            ("id=a,type=env,src=TOKEN", b"of a variable \xff"),
            ("id=TOKEN", b"of a variable \xff"),
            ("id=TOKEN,type=file", b"a file called so"),
            ("id=file", b"of a file"),
        ],
    )
    def test_a_file_or_a_variable(
        self, spec: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As Docker's client takes them."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(os.environb, b"TOKEN", b"of a variable \xff")
        (tmp_path / "file").write_bytes(b"of a file")
        (tmp_path / "with,comma").write_bytes(b"comma")
        (tmp_path / "TOKEN").write_bytes(b"a file called so")
        name = "TOKEN" if "id=TOKEN" in spec else "file" if spec == "id=file" else "a"
        assert read_secret(spec) == (name, data)

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("src=file", "id= is missing"),
            ("id=a,env=PANNIER_NOT_SET", "the variable PANNIER_NOT_SET is not set"),
            ("id=a,type=env", "the variable a is not set"),
            ("id=a,src=/nowhere/at/all", "cannot read /nowhere/at/all: No such file"),
            ("id=a,type=ssh", "unsupported secret type 'ssh'"),
            ("id=a,sauce=b", "unexpected key 'sauce'"),
            ("id=a,src", "must be a key=value pair"),
            ("id=a,src=/dev/zero", "more than 512000 bytes"),
            ('id=a,"src', "unexpected end of data"),
        ],
    )
    def test_what_is_malformed_is_named(self, spec: str, words: str) -> None:
        """Before anything is sent."""
        with pytest.raises(UsageError, match=words):
            read_secret(spec)
