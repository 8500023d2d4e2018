"""Execs: what to run, and how its start is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.engine.attach import detach_sequence
from pannier.engine.sessions import ExecConfig
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

__all__ = ["ExecStart", "parse_exec", "parse_exec_start"]


@dataclass(frozen=True, slots=True)
class ExecStart:
    """How to start an exec; *tty* says that the client expects a terminal's output, not frames."""

    detach: bool
    tty: bool
    console_size: tuple[int, int]


def parse_exec(fields: Fields) -> ExecConfig:
    """Read the body of an exec's creation."""
    args = fields.command("Cmd") or ()
    if not args:
        raise InvalidRequest("No exec command specified")
    env = fields.strings("Env")
    for value in env:
        if not value or value.startswith("="):
            raise InvalidRequest(f"invalid environment variable: {value}")
    working_dir = fields.text("WorkingDir")
    detach_keys = fields.text("DetachKeys")
    _check_keys(detach_keys)
    return ExecConfig(
        args=args,
        env=env,
        user=fields.text("User"),
        working_dir=working_dir,
        privileged=fields.boolean("Privileged"),
        tty=fields.boolean("Tty"),
        attach_stdin=fields.boolean("AttachStdin"),
        attach_stdout=fields.boolean("AttachStdout"),
        attach_stderr=fields.boolean("AttachStderr"),
        detach_keys=detach_keys or None,
        console_size=_console_size(fields),
    )


def _check_keys(keys: str) -> None:
    try:
        detach_sequence(keys)
    except InvalidRequest:
        # Docker's word for them here.
        raise InvalidRequest(f"Invalid escape keys ({keys}) provided") from None


def parse_exec_start(fields: Fields) -> ExecStart:
    """Read the body of an exec's start, which may be empty."""
    return ExecStart(
        detach=fields.boolean("Detach"),
        tty=fields.boolean("Tty"),
        console_size=_console_size(fields),
    )


def _console_size(fields: Fields) -> tuple[int, int]:
    values = fields.items("ConsoleSize")
    if not values:
        return (0, 0)
    if len(values) != 2 or not all(type(value) is int and 0 <= value < 1 << 16 for value in values):
        raise InvalidRequest("ConsoleSize must be [height, width]")
    return (values[0], values[1])
