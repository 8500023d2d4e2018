"""Scheduling calls, made in a child of the test's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pannier.linux.scheduling import (
    IO_CLASSES,
    PERSONALITIES,
    POLICIES,
    set_io_priority,
    set_personality,
    set_scheduler,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def in_child(function: Callable[[], object]) -> str:
    """Return what a function gives, or how it fails, in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = str(function())
        except OSError as error:
            answer = error.strerror or "?"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer


def test_a_policy_and_a_nice_value_are_set() -> None:
    """The kernel tells both afterwards."""

    def set_and_ask() -> tuple[int, int]:
        set_scheduler(POLICIES["SCHED_BATCH"], nice=3)
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)

    assert in_child(set_and_ask) == str((os.SCHED_BATCH, 3))


def test_what_the_kernel_refuses_is_an_error() -> None:
    """A priority that the policy does not have, and a class that there is not."""
    assert (
        in_child(lambda: set_scheduler(POLICIES["SCHED_OTHER"], priority=5)) == "Invalid argument"
    )
    assert in_child(lambda: set_io_priority(7, 0)) == "Invalid argument"
    assert in_child(lambda: set_io_priority(IO_CLASSES["IOPRIO_CLASS_BE"], 7)) == "None"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another machine has other names")
def test_an_execution_domain_is_set() -> None:
    """A 32-bit one makes the kernel name another machine."""

    def set_and_ask() -> str:
        set_personality(PERSONALITIES["LINUX32"])
        return os.uname().machine

    assert in_child(set_and_ask) == "i686"
