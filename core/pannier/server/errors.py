"""From errors to Docker's answers: a status and ``{"message": …}``, with the hint beside it."""

from __future__ import annotations

import errno
import logging
from typing import Final

from aiohttp import web

from pannier.errors import InvalidRequest, NotFound, NotModified, PannierError, StartFailed
from pannier.server.respond import encode

__all__ = [
    "BodyTooLarge",
    "PageNotFound",
    "Unavailable",
    "error_response",
    "error_text",
    "exec_error_text",
]

_log = logging.getLogger("pannier.server")


class PageNotFound(NotFound):
    """The path or method is none of the API's."""

    def __init__(self) -> None:
        super().__init__("page not found")


class BodyTooLarge(InvalidRequest):
    """A request's JSON is longer than any sensible one."""

    status = 413


class Unavailable(PannierError):
    """A part of the API that a single host does not have: swarm and what builds on it."""

    status = 503


# Docker's clients find the exit status of `run` (127, 126) in these words of the message.
_START_WORDS: Final = {
    errno.ENOENT: ("executable file not found", "no such file or directory"),
    errno.EACCES: ("permission denied",),
}


def exec_error_text(error: StartFailed) -> str:
    """Return what the client of an exec is told in its stream."""
    return f"OCI runtime exec failed: exec failed: {_process_text(error.message)}: unknown"


def error_text(error: BaseException) -> str:
    """Return what a client is told; what was not foreseen stays in the daemon's log."""
    if isinstance(error, StartFailed):
        return _start_text(error)
    return error.message if isinstance(error, PannierError) else "internal error; see the log"


def _process_text(text: str) -> str:
    words = "unable to start container process"
    return text if words in text else f"{words}: {text}"


def _start_text(error: StartFailed) -> str:
    text = error.message
    if "failed to create task" not in text:
        text = f"failed to create task for container: {_process_text(text)}"
    words = _START_WORDS.get(error.errno, ())
    if words and not any(word in text for word in words):
        text = f"{text}: {words[-1]}"
    return text if text.endswith(": unknown") else f"{text}: unknown"


def error_response(error: Exception, what: str) -> web.Response:
    """Return the answer to a request that failed.

    :param what: the request, for the log.
    """
    if isinstance(error, NotModified):
        return web.Response(status=304)
    body: dict[str, object] = {"message": error_text(error)}
    if isinstance(error, PannierError):
        status = error.status
        if error.hint:
            body["hint"] = error.hint
        _log.debug("%s: %d %s", what, status, error.message)
    else:
        status = 500
        _log.error("%s failed", what, exc_info=error)
    return web.Response(body=encode(body), status=status, content_type="application/json")
