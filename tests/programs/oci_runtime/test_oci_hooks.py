"""Hooks: each at its point, in its namespaces, with the state on its stdin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.linux.cgroupfs import cgroup_mounts
from support.native import BUSYBOX

if TYPE_CHECKING:
    from pannier.drivers import oci
    from support.bundles import Bundle

pytestmark = pytest.mark.root

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

NOTE = """#!/bin/sh
read -r state
{
  echo "$state"
  readlink /proc/self/ns/mnt
  readlink /proc/self/ns/uts
  hostname
  test -e /outside && echo outside || echo inside
  echo "$WORD $*"
} > "$1/$2"
"""


@pytest.fixture
def notes(bundle: Bundle, tmp_path: Path) -> Path:
    """Make a folder that hooks write to, inside of the container and outside."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (bundle.folder / "rootfs/notes").mkdir()
    return folder


def hooked(bundle: Bundle, notes: Path, *args: str) -> oci.Spec:
    """Return a configuration with a hook at each point that notes what it sees."""
    spec = bundle.spec(*args)
    for folder in (notes, bundle.folder / "rootfs/notes"):
        script = folder / "hook"
        script.write_text(NOTE.replace("/outside", str(notes / "hook")))
        script.chmod(0o755)
    spec["mounts"] = [
        *spec["mounts"],
        {"destination": "/notes", "type": "bind", "source": str(notes), "options": ["bind"]},
    ]
    hooks: dict[str, Any] = {
        kind: [
            {
                "path": str(notes / "hook"),
                "args": ["hook", str(notes), kind],
                "env": ["WORD=word", "PATH=/bin:/usr/bin"],
                "timeout": 30,
            }
        ]
        for kind in KINDS
    }
    hooks["startContainer"][0] |= {
        "path": "/notes/hook",
        "args": ["hook", "/notes", "startContainer"],
    }
    spec["hooks"] = cast("oci.Hooks", hooks)
    spec["annotations"] = {"key": "value"}
    return spec


def test_each_hook_runs_at_its_point_in_its_namespaces(bundle: Bundle, notes: Path) -> None:
    """Those of the runtime in its own, those of the container in the container's."""
    output = bundle.create("one", hooked(bundle, notes, "echo", "hello"))
    seen = {path.name for path in notes.iterdir()} - {"hook"}
    assert seen == {"prestart", "createRuntime", "createContainer"}
    pid = bundle.read_state("one")["pid"]
    inner = str(Path(f"/proc/{pid}/ns/mnt").readlink())
    bundle.do("start", "one")
    assert output.read() == "hello\n"
    seen = {path.name for path in notes.iterdir()} - {"hook"}
    assert seen == {*KINDS} - {"poststop"}
    bundle.do("delete", "--force", "one")
    ours = str(Path("/proc/self/ns/mnt").readlink())
    for kind, status, outside in (
        ("prestart", "creating", True),
        ("createRuntime", "creating", True),
        ("createContainer", "creating", False),
        ("startContainer", "created", False),
        ("poststart", "running", True),
        ("poststop", "stopped", True),
    ):
        text, mount, uts, host, place, words = (notes / kind).read_text().splitlines()
        state = json.loads(text)
        assert state["status"] == status, kind
        assert (state["id"], state["bundle"]) == ("one", str(bundle.folder))
        assert state["annotations"] == {"key": "value"}
        assert state["pid"] == (0 if kind == "poststop" else pid if outside else 1), kind
        assert mount == (ours if outside else inner), kind
        assert (uts == str(Path("/proc/self/ns/uts").readlink())) is outside, kind
        assert (host == "box") is not outside, kind
        assert place == ("inside" if kind == "startContainer" else "outside"), kind
        assert words.split()[0] == "word"


def test_create_hooks_see_the_container_root_in_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """With the container's mounts on it; what they add there the container has."""
    hook = tmp_path / "hook"
    root = bundle.folder / "rootfs"
    hook.write_text(f"#!/bin/sh\nls {root}/proc/self > /dev/null && echo made > {root}/dev/shm/x\n")
    hook.chmod(0o755)
    spec = bundle.spec("cat", "/dev/shm/x")
    spec["hooks"] = {"createContainer": [{"path": str(hook)}]}
    assert bundle.run(spec) == "made\n"
    assert not (root / "dev/shm").exists() or not list((root / "dev/shm").iterdir())


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_undoes_create(bundle: Bundle, notes: Path, kind: str) -> None:
    """With its own words in the error; the container is stopped, and poststop hooks run."""
    spec = hooked(bundle, notes, "echo", "hello")
    failing: Any = {"path": "/bin/sh", "args": ["sh", "-c", "echo it broke >&2; exit 3"]}
    cast("Any", spec["hooks"])[kind] = [failing, *cast("Any", spec["hooks"])[kind]]
    bundle.write(spec)
    said = bundle.refused("create", "one")
    assert f": {kind} hook /bin/sh failed: exit status 3: it broke" in said
    assert "HookError" not in said
    assert not (notes / kind).exists()
    assert (notes / "poststop").exists()
    assert bundle.do("list", "-q") == ""


@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_a_start_hook_that_fails_destroys_the_container(
    bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    """Its program does not run (on); ``start`` tells why; poststop hooks run, as for ``delete``."""
    spec = bundle.spec("sh", "-c", "sleep 100 && echo hello")
    last = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp_path}/last"], "env": ["PATH=/bin"]}
    spec["hooks"] = cast("Any", {kind: [{"path": "/bin/false"}], "poststop": [last]})
    output = bundle.create("one", spec)
    said = bundle.refused("start", "one")
    assert f"{kind} hook /bin/false failed: exit status 1" in said
    assert output.read() == ""
    assert json.loads((tmp_path / "last").read_text())["status"] == "stopped"
    assert "container 'one' does not exist" in bundle.refused("state", "one")
    assert not any((mount.path / bundle.group[1:]).exists() for mount in cgroup_mounts())


def test_a_poststop_hook_that_fails_is_a_warning(bundle: Bundle, notes: Path) -> None:
    """The hooks behind it still run, and the container is deleted."""
    spec = hooked(bundle, notes, "true")
    cast("Any", spec["hooks"])["poststop"].insert(0, {"path": "/bin/false"})
    bundle.write(spec)
    done = bundle.call("run", "one")
    assert done.returncode == 0
    assert "poststop hook /bin/false failed: exit status 1" in done.stderr
    assert (notes / "poststop").exists()


def test_a_hook_may_take_no_longer_than_its_timeout(bundle: Bundle) -> None:
    """It is killed with its children then, and fails."""
    spec = bundle.spec("true")
    spec["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000"], "timeout": 1}]
    }
    bundle.write(spec)
    assert "createRuntime hook /bin/sh did not end in 1 seconds" in bundle.refused("create", "one")


def test_a_hook_that_is_missing_or_malformed_is_an_error(bundle: Bundle) -> None:
    """A path must be absolute and a timeout positive, and there must be such a program."""
    spec = bundle.spec("true")
    for hook, said in (
        ({"path": "/no/such"}, "cannot be executed: No such file or directory"),
        ({"path": "sh"}, "'sh' is not absolute"),
        ({"path": "/bin/sh", "timeout": 0}, "the timeout 0 is not greater than zero"),
    ):
        spec["hooks"] = cast("Any", {"createContainer": [hook]})
        bundle.write(spec)
        assert said in bundle.refused("create", "one")


def test_a_start_hook_does_not_lead_out_of_the_container(bundle: Bundle, tmp_path: Path) -> None:
    """No descriptor is left by which a program in the image could be one of the host's."""
    outside = tmp_path / "outside/touch"
    outside.parent.mkdir()
    shutil.copy(BUSYBOX, outside)
    spec = bundle.spec("true")
    for number in range(3, 9):
        link = bundle.folder / f"rootfs/hook{number}"
        link.symlink_to(f"/proc/self/fd/{number}{'/..' * 12}{outside}")
        hook: Any = {"path": f"/{link.name}", "args": ["touch", "/escaped"]}
        spec["hooks"] = {"startContainer": [hook]}
        bundle.write(spec)
        assert "cannot be executed" in bundle.refused("run", f"c{number}")
    assert not (bundle.folder / "rootfs/escaped").exists()
