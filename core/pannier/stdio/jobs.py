"""The shapes of what a monitor is told of logs and clients; for the type checker only."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["ConnectionJob", "LogJob"]


class LogJob(TypedDict):
    """The log to write: its open file, its folder, its name there, and when to begin another."""

    file: int
    folder: int
    name: bytes
    max_size: int
    max_files: int


class ConnectionJob(TypedDict):
    """A client to serve; its socket is the descriptor."""

    socket: int
    stdin: bool
    stdout: bool
    stderr: bool
    pending: bytes
    detach_keys: bytes
    framed: bool | None
