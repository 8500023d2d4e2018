"""What clients have of a container that runs: an exec, its streams, a part of its log.

None of it is stored; the values follow the Docker Engine API's meanings, as the model's do.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AttachOptions", "ExecConfig", "ExecSession", "LogOptions"]


@dataclass(frozen=True, slots=True)
class ExecConfig:
    """A process to run in a running container.

    :param detach_keys: None for the default, ``ctrl-p,ctrl-q``.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    privileged: bool = False
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str | None = None
    console_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class ExecSession:
    """An exec, from its creation until its container goes."""

    id: str
    container: str
    config: ExecConfig
    running: bool = False
    pid: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """How a client attaches.

    :param logs: first replay what was logged.
    :param stream: then stay attached.
    :param raw: without framing, also where there is no terminal.
    """

    logs: bool = False
    stream: bool = False
    raw: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str | None = None


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which part of a log to read; times in nanoseconds since the epoch, 0 for no bound.

    :param tail: number of lines from the end; None for all.
    """

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    since: int = 0
    until: int = 0
    tail: int | None = None
