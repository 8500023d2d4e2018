"""What can go wrong between the client and the daemon."""

from __future__ import annotations

from pannier.errors import PannierError

__all__ = ["APIError", "ConnectionFailed", "ProtocolError"]


class APIError(PannierError):
    """The daemon answered with an error.

    :param code: the HTTP status of the answer (4xx or 5xx).
    :param message: the daemon's own words.
    :param hint: the daemon's advice, where it gives one.
    """

    def __init__(self, code: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class ConnectionFailed(PannierError):
    """No daemon answers at the address."""


class ProtocolError(PannierError):
    """What came back breaks HTTP/1.1, or the connection ended in the middle of an answer."""
