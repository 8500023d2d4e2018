"""The default profile, and profiles in Docker's format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pannier.linux.capabilities import CAPABILITIES
from pannier.linux.seccomp import compile_filter
from pannier.linux.seccomp_default import default_profile
from pannier.linux.seccomp_docker import from_docker_profile
from pannier.linux.syscall_tables import ARCHITECTURES, numbers

if TYPE_CHECKING:
    from pannier.drivers import oci


def allowed(capabilities: list[str]) -> set[str]:
    """Return the names that the default profile allows, whatever the arguments."""
    rules = default_profile(capabilities, "x86_64")["syscalls"]
    return {
        name
        for rule in rules
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }


def test_every_name_of_the_default_profile_exists() -> None:
    """No call is misspelt: each is in some architecture's table."""
    known = {name for architecture in ARCHITECTURES for name in numbers(architecture)}
    assert allowed(list(CAPABILITIES)) <= known


def test_the_default_profile_fits_a_specification() -> None:
    """The profile has the type that the drivers' specification asks for."""
    profile: oci.Seccomp = default_profile((), "x86_64")
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_BPF", "bpf"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_NICE", "mbind"),
    ],
)
def test_a_capability_brings_its_calls(capability: str, call: str) -> None:
    """A governed call is allowed with its capability and not without."""
    assert call in allowed([capability])
    assert call not in allowed([])


@pytest.mark.parametrize(
    "call",
    ["io_uring_setup", "keyctl", "add_key", "request_key", "kexec_load", "swapon", "userfaultfd"],
)
def test_some_calls_are_never_allowed(call: str) -> None:
    """No capability opens these."""
    assert call not in allowed(list(CAPABILITIES))


def docker(**profile: Any) -> str:
    """Return a profile's text."""
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", **profile})


def calls(text: str, *capabilities: str, **host: str) -> list[str]:
    """Return the calls that a profile's applicable rules name."""
    profile = from_docker_profile(text, capabilities, **host)
    return [name for rule in profile["syscalls"] for name in rule["names"]]


def test_architectures_come_from_the_map() -> None:
    """The machine's own entry is taken, with its sub-architectures; others are not."""
    text = docker(
        archMap=[
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": None},
        ],
        syscalls=[],
    )
    arm = from_docker_profile(text, (), machine="aarch64")
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert from_docker_profile(text, (), machine="x86_64")["architectures"] == ["SCMP_ARCH_X86_64"]


def test_conditions_choose_the_rules() -> None:
    """All inclusions must hold; one exclusion is enough; machines and kernels count."""
    rule = {"action": "SCMP_ACT_ALLOW"}
    text = docker(
        syscalls=[
            {**rule, "names": ["read"]},
            {**rule, "name": "write"},
            {**rule, "names": ["both"], "includes": {"caps": ["CAP_A", "CAP_B"]}},
            {**rule, "names": ["neither"], "excludes": {"caps": ["CAP_A", "CAP_B"]}},
            {**rule, "names": ["arm"], "includes": {"arches": ["arm64"]}},
            {**rule, "names": ["noarm"], "excludes": {"arches": ["arm64"]}},
            {**rule, "names": ["new"], "includes": {"minKernel": "4.8"}},
            {**rule, "names": ["old"], "excludes": {"minKernel": "4.8"}},
        ]
    )
    host = {"machine": "x86_64", "kernel": "6.1.0-13-amd64"}
    assert calls(text, **host) == ["read", "write", "neither", "noarm", "new"]
    assert calls(text, "CAP_A", **host) == ["read", "write", "noarm", "new"]
    assert calls(text, "CAP_A", "CAP_B", **host) == ["read", "write", "both", "noarm", "new"]
    host = {"machine": "aarch64", "kernel": "4.7.12-rc3"}
    assert calls(text, **host) == ["read", "write", "neither", "arm", "old"]


def test_a_plain_specification_is_a_profile_too() -> None:
    """An OCI seccomp object passes through, and compiles to the same program."""
    plain = default_profile(["CAP_SYS_CHROOT"], "x86_64")
    read = from_docker_profile(json.dumps(plain), (), machine="x86_64")
    assert compile_filter(read, "x86_64") == compile_filter(plain, "x86_64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("[]", "an object is expected"),
        ("{}", "defaultAction"),
        (docker(archMap=[{}], syscalls=[]), "archMap"),
        (docker(archMap=[{"architecture": "x"}], architectures=["x"]), "exclude each other"),
        (docker(syscalls=[{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}]), "exclude"),
        (docker(syscalls=[{"names": ["a"], "includes": {"minKernel": "new"}}]), "minKernel"),
        (docker(syscalls=[{"names": ["a"]}]), "action"),
        (docker(syscalls=["a"]), r"syscalls\[0\]"),
    ],
)
def test_a_malformed_file_says_where(text: str, message: str) -> None:
    """Every mistake is a ValueError with its place."""
    with pytest.raises(ValueError, match=message):
        from_docker_profile(text, (), machine="x86_64")
