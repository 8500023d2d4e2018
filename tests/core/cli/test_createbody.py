"""The create body is what the real docker client sends for the same flags."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from pannier.cli.command import Command, UsageError
from pannier.cli.commands.create import CREATE
from pannier.cli.commands.run import RUN
from pannier.cli.createbody import create_body
from pannier.cli.parse import parse
from pannier.errors import PannierError

GOLDEN = Path(__file__).parent / "golden"


def _recorder() -> Any:
    spec = importlib.util.spec_from_file_location("golden_record", GOLDEN / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECORD = _recorder()
CASES = json.loads((GOLDEN / "create_bodies.json").read_text().replace("{HERE}", str(GOLDEN)))


def _body(args: list[str], command: Command = CREATE) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(json.dumps(create_body(parse(command, args))))
    return body


@pytest.mark.parametrize(
    "case", [one for one in CASES if one["body"]], ids=lambda one: " ".join(one["args"])
)
def test_body_is_what_docker_sends(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command line gives the same body, empty fields apart."""
    monkeypatch.chdir(GOLDEN)
    assert RECORD.normalise(_body(case["args"])) == case["body"]


@pytest.mark.parametrize(
    "case", [one for one in CASES if one["error"]], ids=lambda one: " ".join(one["args"])
)
def test_what_docker_refuses_is_refused(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line that the docker client refuses is refused here, with the value named."""
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(PannierError) as caught:
        _body(case["args"])
    assert str(caught.value)


def test_detached_run_attaches_nothing() -> None:
    """``run -d -i`` keeps the input open and attaches no stream."""
    values = parse(RUN, ["-d", "-i", "busybox"])
    body = create_body(values, detach=True)
    assert body["OpenStdin"] is True
    assert body["AttachStdout"] is False
    assert "AttachStdin" not in body


def test_rootfs_takes_the_place_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--rootfs`` every argument is the command, and the path is absolute."""
    monkeypatch.chdir("/usr")
    body = _body(["--rootfs", "lib", "echo", "hello"], RUN)
    assert body["Rootfs"] == "/usr/lib"
    assert body["Image"] == ""
    assert body["Cmd"] == ["echo", "hello"]


def test_an_image_or_a_rootfs_is_needed() -> None:
    """Neither an image nor a folder is an error that says how to go on."""
    with pytest.raises(UsageError) as caught:
        _body([], RUN)
    assert "--rootfs" in str(caught.value)
    assert caught.value.hint


def test_a_bare_environment_name_takes_its_value_from_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``-e NAME`` sends this process's value; a name that is not set is sent bare."""
    monkeypatch.setenv("PANNIER_TEST_SET", "yes")
    monkeypatch.delenv("PANNIER_TEST_UNSET", raising=False)
    body = _body(["-e", "PANNIER_TEST_SET", "-e", "PANNIER_TEST_UNSET", "busybox"])
    assert body["Env"] == ["PANNIER_TEST_SET=yes", "PANNIER_TEST_UNSET"]


def test_gpus_are_refused() -> None:
    """``--gpus`` is refused with a way to pass a device."""
    with pytest.raises(UsageError, match="gpus") as caught:
        _body(["--gpus", "all", "busybox"])
    assert caught.value.hint == "pass a device with --device"


def test_long_form_of_publish() -> None:
    """``-p target=80,published=8080`` is the short form in other words."""
    body = _body(["-p", "target=80,published=8080,protocol=udp", "busybox"])
    assert body["HostConfig"]["PortBindings"] == {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}


@pytest.mark.parametrize(
    "spec",
    ["type=bind,src=/a,dst=/b,tmpfs-size=1", "type=tmpfs,dst=/x,volume-nocopy", "type=,dst=/x"],
)
def test_mount_types_do_not_mix(spec: str) -> None:
    """An option of another type of mount is refused."""
    with pytest.raises(UsageError, match="mount"):
        _body(["--mount", spec, "busybox"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-v", "/a::/b"], "empty section"),
        (["-p", "1.2.3.4.5:80:80"], "invalid IP address"),
        (["-p", "80/foo"], "invalid proto"),
        (["--restart", ":3"], "no policy provided before colon"),
        (["--restart", "on-failure:x"], "maximum retry count must be an integer"),
        (
            ["--mount", "type=bind,src=/a,dst=/b,bind-recursive=writable"],
            "'bind-recursive=writable' requires 'readonly' to be specified",
        ),
        (
            ["--mount", "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly"],
            "'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified",
        ),
        (["--health-interval=-1s"], "cannot be negative"),
        (["--health-retries=-1"], "cannot be negative"),
        (["--cpus", "0.1234567890"], "too precise"),
        (["--network", "name=a,bogus=1"], "invalid field"),
        (["--network", "alias=x"], "not specified"),
        (["--network", "name=a,ip=1.1.1.1", "--ip", "2.2.2.2"], "conflicting"),
    ],
)
def test_further_refusals(flags: list[str], message: str) -> None:
    """Malformed values are refused with the reason."""
    with pytest.raises(UsageError, match=message):
        _body([*flags, "busybox"])
