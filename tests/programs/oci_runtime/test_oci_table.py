"""Every field of the specification (1.3): honoured, as a test shows, or refused by its name.

Fields are written as paths; ``[]`` stands for the entries of an array, ``*`` for any key.
"""

from __future__ import annotations

import ast
import copy
import functools
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, cast

import pytest

from pannier.drivers import oci
from pannier.errors import PannierError
from pannier_oci.creating import CreateOptions, create
from pannier_oci.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.bundles import Bundle

TESTS = Path(__file__).parents[2]
HERE = "programs/oci_runtime"
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

HONOURED = {
    f"{HERE}/test_oci_config.py::test_what_is_not_offered_is_refused_by_name": ("ociVersion",),
    f"{HERE}/test_oci_lifecycle.py::test_a_container_goes_through_its_states": (
        "root.path", "process.args[]", "annotations.*",
    ),
    f"{HERE}/test_oci_lifecycle.py::test_a_terminal_goes_to_the_console_socket": (
        "process.terminal", "process.consoleSize.height", "process.consoleSize.width",
    ),
    f"{HERE}/test_oci_fields.py::test_a_process_is_who_the_configuration_says": (
        "process.cwd", "process.env[]", "process.user.uid", "process.user.gid",
        "process.user.umask", "process.user.additionalGids[]", "process.noNewPrivileges",
        "process.oomScoreAdj", "process.rlimits[].type", "process.rlimits[].soft",
        "process.rlimits[].hard", *(f"process.capabilities.{kind}[]" for kind in SETS),
    ),
    f"{HERE}/test_oci_config.py::test_scheduling_and_personality_are_the_processs": (
        "linux.personality.domain",
    ),
    f"{HERE}/test_oci_fields.py::test_scheduling_reaches_the_kernels_call": (
        *(f"process.scheduler.{name}"
          for name in ("policy", "nice", "priority", "flags[]", "runtime", "deadline", "period")),
        "process.ioPriority.class", "process.ioPriority.priority",
    ),
    f"{HERE}/test_oci_exec.py::test_a_process_is_as_a_file_says": (
        "process.execCPUAffinity.initial", "process.execCPUAffinity.final",
    ),
    f"{HERE}/test_oci_fields.py::test_names_and_what_is_read_only_or_hidden": (
        "root.readonly", "hostname", "domainname", "linux.sysctl.*", "linux.maskedPaths[]",
        "linux.readonlyPaths[]",
    ),
    f"{HERE}/test_oci_fields.py::test_devices_are_made_as_asked": tuple(
        f"linux.devices[].{name}"
        for name in ("path", "type", "major", "minor", "fileMode", "uid", "gid")
    ),
    f"{HERE}/test_oci_fields.py::test_mounts_have_their_options": tuple(
        f"mounts[].{name}" for name in ("destination", "type", "source", "options[]")
    ),
    f"{HERE}/test_oci_config.py::test_a_bind_is_idmapped": tuple(
        f"mounts[].{kind}Mappings[].{name}"
        for kind in ("uid", "gid") for name in ("containerID", "hostID", "size")
    ),
    f"{HERE}/test_oci_config.py::test_a_user_namespace_has_the_maps": tuple(
        f"linux.{kind}Mappings[].{name}"
        for kind in ("uid", "gid") for name in ("containerID", "hostID", "size")
    ),
    f"{HERE}/test_oci_config.py::test_namespaces_are_joined_by_their_paths": (
        "linux.namespaces[].type", "linux.namespaces[].path",
    ),
    f"{HERE}/test_oci_config.py::test_clocks_are_offset_in_a_time_namespace": (
        "linux.timeOffsets.*.secs", "linux.timeOffsets.*.nanosecs",
    ),
    f"{HERE}/test_oci_config.py::test_limits_and_devices_are_the_groups_at_the_path": (
        "linux.cgroupsPath",
    ),
    f"{HERE}/test_oci_fields.py::test_the_roots_propagation_is_its_own": (
        "linux.rootfsPropagation",
    ),
    f"{HERE}/test_oci_hooks.py::test_each_hook_runs_at_its_point_in_its_namespaces": tuple(
        f"hooks.{kind}[].{name}" for kind in KINDS for name in ("path", "args[]", "env[]")
    ),
    f"{HERE}/test_oci_hooks.py::test_a_hook_may_take_no_longer_than_its_timeout": tuple(
        f"hooks.{kind}[].timeout" for kind in KINDS
    ),
    f"{HERE}/test_oci_fields.py::test_a_filter_answers_as_it_says": (
        "linux.seccomp.defaultAction", "linux.seccomp.syscalls[].names[]",
        "linux.seccomp.syscalls[].action", "linux.seccomp.syscalls[].errnoRet",
        *(f"linux.seccomp.syscalls[].args[].{name}"
          for name in ("index", "value", "valueTwo", "op")),
    ),
    "core/linux/test_seccomp.py::test_a_malformed_profile_names_the_field": (
        "linux.seccomp.defaultErrnoRet",
    ),
    "core/linux/test_seccomp.py::test_a_foreign_architecture_kills": (
        "linux.seccomp.architectures[]",
    ),
    "core/linux/test_seccomp.py::test_flags_are_translated": ("linux.seccomp.flags[]",),
    f"{HERE}/test_oci_apparmor.py::test_a_program_is_confined_by_its_profile": (
        "process.apparmorProfile",
    ),
    f"{HERE}/test_oci_fields.py::test_device_rules_reach_the_driver": tuple(
        f"linux.resources.devices[].{name}"
        for name in ("allow", "type", "major", "minor", "access")
    ),
    f"{HERE}/test_oci_fields.py::test_each_limit_reaches_the_driver": (
        *(f"linux.resources.memory.{name}" for name in
          ("limit", "reservation", "swap", "swappiness", "disableOOMKiller", "useHierarchy")),
        *(f"linux.resources.cpu.{name}" for name in
          ("shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems")),
        "linux.resources.pids.limit", "linux.resources.blockIO.weight",
        *(f"linux.resources.blockIO.weightDevice[].{name}"
          for name in ("major", "minor", "weight")),
        *(f"linux.resources.blockIO.throttle{way}Device[].{name}"
          for way in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")
          for name in ("major", "minor", "rate")),
        "linux.resources.hugepageLimits[].pageSize", "linux.resources.hugepageLimits[].limit",
    ),
}  # fmt: skip
"""The test that shows it, and the fields that it shows."""

REFUSED: dict[str, tuple[object, str]] = {
    "process.selinuxLabel": ("label", "process.selinuxLabel"),
    "process.commandLine": ("a b", "process.commandLine"),
    "process.user.username": ("somebody", "process.user.username"),
    "linux.mountLabel": ("label", "linux.mountLabel"),
    "linux.intelRdt.closID": ("x", "linux.intelRdt"),
    "linux.intelRdt.l3CacheSchema": ("L3:0=f", "linux.intelRdt"),
    "linux.intelRdt.memBwSchema": ("MB:0=1", "linux.intelRdt"),
    "linux.intelRdt.schemata[]": ("MB:0=1", "linux.intelRdt"),
    "linux.intelRdt.enableMonitoring": (True, "linux.intelRdt"),
    "linux.netDevices.*.name": ("eth1", "linux.netDevices"),
    "linux.memoryPolicy.mode": ("MPOL_BIND", "linux.memoryPolicy"),
    "linux.memoryPolicy.nodes": ("0", "linux.memoryPolicy"),
    "linux.memoryPolicy.flags[]": ("MPOL_F_STATIC_NODES", "linux.memoryPolicy"),
    "linux.personality.flags[]": ("ADDR_NO_RANDOMIZE", "linux.personality.flags"),
    "linux.seccomp.listenerPath": ("/run/x", "linux.seccomp.listenerPath"),
    "linux.seccomp.listenerMetadata": ("x", "linux.seccomp.listenerMetadata"),
    "linux.resources.memory.kernel": (9, "linux.resources.memory.kernel"),
    "linux.resources.memory.kernelTCP": (9, "linux.resources.memory.kernelTCP"),
    "linux.resources.memory.checkBeforeUpdate": (True, "linux.resources.memory.checkBeforeUpdate"),
    "linux.resources.cpu.burst": (9, "linux.resources.cpu.burst"),
    "linux.resources.cpu.idle": (1, "linux.resources.cpu.idle"),
    "linux.resources.blockIO.leafWeight": (9, "linux.resources.blockIO.leafWeight"),
    "linux.resources.blockIO.weightDevice[].leafWeight": (
        9,
        "linux.resources.blockIO.weightDevice.leafWeight",
    ),
    "linux.resources.network.classID": (9, "linux.resources.network"),
    "linux.resources.network.priorities[].name": ("eth0", "linux.resources.network"),
    "linux.resources.network.priorities[].priority": (9, "linux.resources.network"),
    "linux.resources.rdma.*.hcaHandles": (9, "linux.resources.rdma"),
    "linux.resources.rdma.*.hcaObjects": (9, "linux.resources.rdma"),
    "linux.resources.unified.*": ("9", "linux.resources.unified"),
    **{
        f"{platform}.*": ("x", platform)
        for platform in ("solaris", "windows", "vm", "zos", "freebsd")
    },
}
"""A value that asks for something, and what the error calls it."""

BESIDE: dict[str, Any] = {
    "linux.personality.flags[]": {"domain": "LINUX"},
    "linux.seccomp.listenerPath": {"defaultAction": "SCMP_ACT_ALLOW"},
    "linux.seccomp.listenerMetadata": {"defaultAction": "SCMP_ACT_ALLOW"},
    "linux.resources.blockIO.weightDevice[].leafWeight": {"major": 8, "minor": 0},
}
"""What a field needs beside it."""


def leaves(kind: Any, where: str = "") -> Iterator[str]:
    """Yield the path of every field that a type of the contract has."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is NotRequired:
        yield from leaves(arguments[0], where)
    elif typing.is_typeddict(kind):
        for name, inner in typing.get_type_hints(kind, include_extras=True).items():
            yield from leaves(inner, f"{where}.{name}" if where else name)
    elif origin is list:
        yield from leaves(arguments[0], f"{where}[]")
    elif origin is dict:
        yield from leaves(arguments[1], f"{where}.*")
    else:
        yield where


def known() -> set[str]:
    """Return every field of the table."""
    return {field for fields in HONOURED.values() for field in fields} | REFUSED.keys()


def test_the_contracts_types_are_in_the_table() -> None:
    """What the types have, the table has: nothing is parsed and then forgotten."""
    free = ("linux.resources.memory.*", "linux.resources.cpu.*", "linux.resources.pids.*")
    fields = set(leaves(oci.Spec)) - set(free)
    assert fields <= known()


def test_no_field_is_in_the_table_twice() -> None:
    """Each is honoured, or refused, once."""
    fields = [field for shown in HONOURED.values() for field in shown] + [*REFUSED]
    assert sorted(fields) == sorted({*fields})


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("shown", HONOURED)
def test_what_is_honoured_is_shown_by_a_test(shown: str) -> None:
    """By one that there is, which speaks of each of the fields, or of all of a kind."""
    path, _, name = shown.partition("::")
    assert name in names_in(path)


def with_field(document: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """Return a configuration with one field more."""
    changed = copy.deepcopy(document)
    inner: Any = changed
    *way, last = field.replace("*", "any").split(".")
    for step in way:
        name = step.removesuffix("[]")
        inner = inner.setdefault(name, [{}] if step.endswith("[]") else {})
        inner = inner[0] if step.endswith("[]") else inner
    inner.update(BESIDE.get(field, {}))
    inner[last.removesuffix("[]")] = [value] if last.endswith("[]") else value
    return changed


@pytest.mark.root
@pytest.mark.parametrize("field", REFUSED)
def test_what_is_refused_is_named(bundle: Bundle, field: str) -> None:
    """And nothing is made; without the field the configuration is taken."""
    value, called = REFUSED[field]
    spec = cast("dict[str, Any]", bundle.spec("true"))
    bundle.write(cast("oci.Spec", with_field(spec, field, value)))
    with pytest.raises(PannierError) as caught:
        create(Records(bundle.state), bundle.state, "one", CreateOptions(bundle.folder))
    assert called in caught.value.message
    assert list(Records(bundle.state).all()) == []
