"""The command line's end of the helper that becomes a container's process."""

from __future__ import annotations

import os
import re
import socket
from errno import EPERM
from typing import TYPE_CHECKING, Any, Self

from pannier.errors import DriverError, PannierError, StartFailed
from pannier.runtimes.channel import receive, send
from pannier.runtimes.sealing import start_sealed
from pannier_runtime_native.solo import AGREED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from types import TracebackType

    from pannier_runtime_native.messages import Reply
    from pannier_runtime_native.planning import Blueprint

__all__ = ["Helper", "close_all", "failure"]


_PREFIX = re.compile(r"^\[Errno \d+\] ")
_NOT_PERMITTED = "operation not permitted"


class Helper:
    """A helper process for one container, which ends with the block."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process: subprocess.Popen[bytes] = start_sealed(
                "pannier_runtime_native.solo", theirs, packages=("pannier_runtime_native",)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._process.wait()

    def ask(self, request: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Send the one request."""
        send(self._socket, request, descriptors)

    def answer(self) -> tuple[Reply, list[int]]:
        """Return the next answer with its descriptors.

        :raises DriverError: the helper has ended without one.
        """
        message = receive(self._socket)
        if message is None:
            raise DriverError("the helper process has ended too early")
        return message

    def agree(self) -> None:
        """Let the helper go on."""
        self._socket.send(AGREED)


def failure(reply: Reply, blueprint: Blueprint | None = None) -> PannierError:
    """Return the error that a helper told of."""
    text, number = _PREFIX.sub("", reply["text"]), reply["errno"]
    if number == EPERM and _NOT_PERMITTED not in text.lower():
        text = f"{text}: {_NOT_PERMITTED}"  # in the words that engines look for
    hint = None
    if "RLIMIT_" in text:
        hint = "without CAP_SYS_RESOURCE, ask for no more than the runtime's own limits"
    index = reply.get("step", -1)
    step = blueprint.steps[index] if blueprint is not None and index >= 0 else None
    if step is not None:
        return DriverError(f"cannot {step}: {text}", hint=hint)
    return StartFailed(text, errno=number, hint=hint)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
