"""The error tree of Pannier.

Every error says what was asked, what stood in the way, and, in :attr:`PannierError.hint`, what to
do. :attr:`PannierError.status` is the HTTP status that the API answers with; the classes follow
the meanings that the Docker Engine API gives to those statuses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    # The command line imports this module, and nothing else of it needs typing (3 ms of a start).
    from typing import ClassVar

__all__ = [
    "ConfigError",
    "Conflict",
    "ContractViolation",
    "DriverError",
    "DriverUnavailable",
    "Forbidden",
    "ImageInvalid",
    "InvalidRequest",
    "NotFound",
    "NotModified",
    "PannierError",
    "StartFailed",
    "UnsupportedOperation",
]


class PannierError(Exception):
    """The root of every error that Pannier raises on purpose.

    A driver's author may well hand on what was caught, as in ``DriverError(error)``: its words are
    taken then, and the class's name where it has none, so that an error can always be written out.

    :param message: one line: what was asked and what stood in the way.
    :param hint: one line: what the reader can do about it; None where there is nothing to say.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        words = str(message)
        self.message = words if words.strip() else type(self).__name__
        self.hint = None if hint is None else str(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class InvalidRequest(PannierError):
    """What was asked is malformed or contradicts itself."""

    status = 400


class ConfigError(InvalidRequest):
    """The configuration file has a wrong key, type or value."""


class ImageInvalid(InvalidRequest):
    """An image, layer or archive breaks its format's rules, or is hostile."""


class Forbidden(PannierError):
    """What was asked is understood and refused."""

    status = 403


class NotFound(PannierError):
    """What was named does not exist."""

    status = 404


class NotModified(PannierError):
    """What was asked for is so already (a second start or stop)."""

    status = 304


class Conflict(PannierError):
    """What was asked contradicts the present state (a name in use, a running container)."""

    status = 409


class UnsupportedOperation(PannierError):
    """The driver in use, or this host, does not offer what was asked.

    A driver raises it for everything that its capabilities do not declare.
    """

    status = 501


class DriverError(PannierError):
    """A driver could not do what it was asked; it harms its own container and nothing else."""


class ContractViolation(DriverError):
    """A driver or plugin broke the contract of its kind (wrong type, duplicate id, lie)."""


class DriverUnavailable(PannierError):
    """A driver cannot work on this host: a row in ``pannier drivers``, not a fault."""

    status = 503


class StartFailed(DriverError):
    """The container's first process could not be executed.

    :param errno: the error number of the failed ``execve``; ENOENT and EACCES become the exit
        statuses 127 and 126 of ``run``.
    """

    status = 400

    def __init__(self, message: str, *, errno: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
