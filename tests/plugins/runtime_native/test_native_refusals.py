"""What a specification may ask for and the daemon's containers do not get: refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier_runtime_native.refusals import refuse
from support.native import make_spec

if TYPE_CHECKING:
    from pannier.drivers import oci

HOOKS = {"hooks": {"prestart": [{"path": "/x"}]}}
SCHEDULER = {"scheduler": {"policy": "SCHED_BATCH"}}


def spec_with(part: str, fields: dict[str, Any]) -> oci.Spec:
    """Return a usual specification with other fields in one of its parts."""
    spec: dict[str, Any] = dict(make_spec("true"))
    (spec[part] if part else spec).update(fields)
    return cast("oci.Spec", spec)


@pytest.mark.parametrize(
    ("part", "fields", "name"),
    [
        ("", HOOKS, "hooks.prestart"),
        ("process", SCHEDULER, "process.scheduler"),
        ("process", {"ioPriority": {"class": "IOPRIO_CLASS_BE"}}, "process.ioPriority"),
        ("process", {"execCPUAffinity": {"initial": "0"}}, "process.execCPUAffinity"),
        ("linux", {"personality": {"domain": "LINUX32"}}, "linux.personality"),
        ("linux", {"timeOffsets": {"boottime": {"secs": 1}}}, "linux.timeOffsets"),
    ],
)
def test_some_fields_are_for_containers_without_a_monitor(
    part: str, fields: dict[str, Any], name: str
) -> None:
    """They are refused for the daemon's, and taken for the command line's."""
    with pytest.raises(UnsupportedOperation, match=name):
        refuse(spec_with(part, fields), solo=False)
    refuse(spec_with(part, fields), solo=True)


def test_all_that_is_refused_is_named_at_once() -> None:
    """So that nobody has to try once for each."""
    spec = spec_with("linux", {"mountLabel": "x", "intelRdt": {"closID": "x"}})
    with pytest.raises(UnsupportedOperation, match=r"linux\.intelRdt, linux\.mountLabel are not"):
        refuse(spec, solo=True)


def test_empty_fields_ask_for_nothing() -> None:
    """As engines write them: an empty label, a list without hooks."""
    refuse(spec_with("process", {"selinuxLabel": "", "apparmorProfile": ""}), solo=False)
    refuse(spec_with("", {"hooks": {"prestart": []}}), solo=False)


def test_a_word_that_the_specification_does_not_know_is_an_error() -> None:
    """A propagation, and the name of a hook."""
    with pytest.raises(InvalidRequest, match=r"rootfsPropagation 'odd'"):
        refuse(spec_with("linux", {"rootfsPropagation": "odd"}), solo=False)
    with pytest.raises(InvalidRequest, match="unknown hooks: preStart"):
        refuse(spec_with("", {"hooks": {"preStart": [{"path": "/x"}]}}), solo=True)
