"""Capabilities are read, dropped and raised as the kernel reports them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.linux import capabilities
from pannier.linux.libc import libc

if TYPE_CHECKING:
    from collections.abc import Callable

KEEP = ("CAP_CHOWN", "CAP_KILL", "CAP_BPF")


def status_mask(field: str) -> int:
    """Read one of the kernel's own figures about this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value, 16)
    raise AssertionError(field)


def mask(names: tuple[str, ...] | frozenset[str]) -> int:
    """Return the bits of these names."""
    return sum(1 << capabilities.CAPABILITIES[name] for name in names)


def in_child(body: Callable[[], None]) -> None:
    """Run *body* in a child process, since capabilities do not come back."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0


def test_the_last_capability_is_the_kernels() -> None:
    """The probe through prctl agrees with the kernel's own file."""
    path = Path("/proc/sys/kernel/cap_last_cap")
    assert capabilities.last_cap() == int(path.read_text())


def test_bits_follow_the_kernels_header() -> None:
    """A few landmarks of uapi/linux/capability.h are where the header has them."""
    table = capabilities.CAPABILITIES
    assert (table["CAP_CHOWN"], table["CAP_SYS_ADMIN"], table["CAP_SETFCAP"]) == (0, 21, 31)
    assert table["CAP_CHECKPOINT_RESTORE"] == 40
    assert len(table) == 41


def test_permitted_and_bounding_are_what_the_kernel_shows() -> None:
    """Both sets agree with /proc/self/status."""
    known = (1 << len(capabilities.CAPABILITIES)) - 1
    assert mask(capabilities.permitted()) == status_mask("CapPrm") & known
    assert mask(capabilities.bounding()) == status_mask("CapBnd") & known


def test_an_unknown_name_is_refused() -> None:
    """A misspelt capability is a ValueError that names it, before anything changed."""
    with pytest.raises(ValueError, match="CAP_NET_ADMINN"):
        capabilities.drop_bounding(["CAP_NET_ADMINN"])
    with pytest.raises(ValueError, match="NET_ADMIN"):
        capabilities.raise_ambient(["NET_ADMIN"])


@pytest.mark.root
def test_all_five_sets_are_reduced_to_what_is_kept() -> None:
    """After dropping, setting and raising, the kernel shows exactly the kept ones in each set."""

    def body() -> None:
        capabilities.drop_bounding(KEEP)
        capabilities.set_capabilities(KEEP, KEEP, KEEP)
        capabilities.raise_ambient(KEEP[:2])
        for field in ("CapBnd", "CapEff", "CapPrm", "CapInh"):
            assert status_mask(field) == mask(KEEP)
        assert status_mask("CapAmb") == mask(KEEP[:2])

    in_child(body)


@pytest.mark.root
def test_what_was_given_up_does_not_come_back() -> None:
    """A second, larger set is refused by the kernel, and the smaller one stays."""

    def body() -> None:
        capabilities.set_capabilities((), (), ())
        try:
            capabilities.set_capabilities(KEEP, KEEP, ())
        except PermissionError:
            assert capabilities.permitted() == frozenset()
        else:
            raise AssertionError

    in_child(body)


@pytest.mark.root
def test_dropping_without_the_right_to_is_an_error() -> None:
    """Without CAP_SETPCAP the bounding set cannot be reduced: PermissionError, not silence."""

    def body() -> None:
        capabilities.set_capabilities((), (), ())
        try:
            capabilities.drop_bounding(())
        except PermissionError:
            return
        raise AssertionError

    in_child(body)


@pytest.mark.root
def test_other_users_of_prctl_are_left_alone() -> None:
    """Declaring prctl's types here does not change them for the shared library object."""
    assert libc.prctl.argtypes is None or libc.prctl is not capabilities._prctl
