"""The shape of a seccomp filter in an OCI runtime configuration (config-linux.md, "Seccomp").

The same shape as the drivers' own type: what has the fields is the type.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = ["Argument", "Profile", "Rule"]


class Argument(TypedDict):
    """A condition on a system call's argument *index* (0 to 5)."""

    index: int
    value: int
    op: str
    valueTwo: NotRequired[int]


class Rule(TypedDict):
    """What happens on some system calls, where all of *args* hold."""

    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[Argument]]


class Profile(TypedDict):
    """A whole filter."""

    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    architectures: NotRequired[list[str]]
    flags: NotRequired[list[str]]
    syscalls: NotRequired[list[Rule]]
