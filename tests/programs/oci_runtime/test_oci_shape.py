"""A configuration of a wrong shape is refused with the place of the fault, whatever it is."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pannier.drivers import oci
from pannier.drivers.runtime import CreateRequest
from pannier.errors import InvalidRequest, PannierError
from pannier_oci.bundle import grant, id_map, load_process, load_spec
from pannier_oci.limits import limits_of
from pannier_oci.shape import check_shape
from pannier_runtime_native.composing import Solo
from pannier_runtime_native.planning import draw
from support.native import make_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHOLE: dict[str, Any] = {
    **make_spec("true"),
    "root": {"path": "rootfs", "readonly": True},
    "annotations": {"a": "b"},
    "hooks": {"poststop": [{"path": "/bin/true", "args": ["true"], "timeout": 5}]},
}
WHOLE["process"] |= {
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}],
    "oomScoreAdj": 0,
    "scheduler": {"policy": "SCHED_OTHER", "nice": 1},
    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
    "execCPUAffinity": {"initial": "0"},
}
WHOLE["linux"] |= {
    "sysctl": {"net.ipv4.ip_forward": "0"},
    "resources": {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 1 << 20},
        "cpu": {"shares": 100, "cpus": "0"},
        "pids": {"limit": 5},
        "blockIO": {"weight": 10},
    },
    "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
    "seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    },
    "personality": {"domain": "LINUX"},
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type] # see below
    for key, item in inner:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


PLACES = list(places(WHOLE))


def replaced(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """Return the whole configuration with another value in one place."""
    document = copy.deepcopy(WHOLE)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def plan(folder: Path, document: object) -> None:
    """Do with a configuration what ``create`` does before it makes anything."""
    (folder / "config.json").write_text(json.dumps(document))
    spec = load_spec(folder)
    idmap = id_map(spec)
    grant(spec["process"], mapped=idmap is not None)
    limits_of(dict(spec["linux"].get("resources") or {}))
    solo = Solo(listener=lambda: -1, lock=lambda: -1, place="/", state={}, kept=(), keyring="")
    draw(CreateRequest(id="x", spec=spec, root=-1, idmap=idmap), folder, solo)


def test_a_whole_configuration_is_taken(tmp_path: Path) -> None:
    """As it stands, so that the other tests change what is right."""
    plan(tmp_path, WHOLE)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("process", "user"), "x", "process.user must be an object, and is a string"),
        (("process", "args"), [1], "process.args[0] must be a string, and is a whole number"),
        (("process", "terminal"), 1, "process.terminal must be true or false"),
        (("process", "oomScoreAdj"), True, "process.oomScoreAdj must be a whole number"),
        (("process", "rlimits"), [{"type": "X"}], "process.rlimits[0].soft is missing"),
        (("mounts",), [1], "mounts[0] must be an object"),
        (("root", "path"), 5, "root.path must be a string"),
        (("linux", "seccomp"), 5, "linux.seccomp must be an object"),
        (("linux", "namespaces"), [{}], "linux.namespaces[0].type is missing"),
        (("linux", "resources", "memory"), {"limit": "x"}, "linux.resources.memory.limit must be"),
        (("hooks", "poststop"), [{"path": 5}], "hooks.poststop[0].path must be a string"),
        (("linux", "devices", 0, "major"), -1, "device /dev/x: there is no device -1:3"),
        (("annotations",), {"a": 1.5}, "annotations.a must be a string, and is float"),
    ],
)
def test_the_place_is_named(
    tmp_path: Path, path: tuple[Any, ...], value: object, said: str
) -> None:
    """With what was expected there, and what there is."""
    with pytest.raises(InvalidRequest) as caught:
        plan(tmp_path, replaced(path, value))
    assert caught.value.message.startswith(said)


def test_null_is_as_nothing(tmp_path: Path) -> None:
    """Engines write it for what they do not ask for."""
    plan(tmp_path, replaced(("hooks",), None) | {"mounts": None, "annotations": None})


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """The file of ``exec --process`` is checked as well."""
    file = tmp_path / "process.json"
    file.write_text('{"args": ["true"], "cwd": "/", "env": "PATH=/bin"}')
    with pytest.raises(InvalidRequest, match=r"process\.env must be an array"):
        load_process(file)


def test_what_nests_too_deep(tmp_path: Path) -> None:
    """It is malformed, and not the end of the program."""
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InvalidRequest):
        load_spec(tmp_path)


def test_a_list_of_a_union() -> None:
    """Either type will do, and the error names both."""
    check_shape({"limit": 5, "disable": True}, dict[str, int | bool], "memory")
    with pytest.raises(InvalidRequest, match="a whole number or true or false, and is a string"):
        check_shape({"limit": "5"}, dict[str, int | bool], "memory")
    check_shape({"ociVersion": "1", "root": {"path": "/"}}, dict[str, object], "")
    with pytest.raises(InvalidRequest, match="process is missing"):
        check_shape({"ociVersion": "1"}, oci.Spec, "")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(PLACES), JSON)
def test_no_value_in_any_place_is_more_than_an_error(
    tmp_path: Path, path: tuple[Any, ...], value: object
) -> None:
    """It is taken, or refused with a message."""
    with contextlib.suppress(PannierError):
        plan(tmp_path, replaced(path, value))
