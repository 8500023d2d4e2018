"""Reading JSON bodies: whole, well-formed and of a sensible size, or refused as a whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pannier.errors import InvalidRequest
from pannier.server.errors import BodyTooLarge
from pannier.server.parse.fields import Fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

__all__ = ["MAX_JSON", "body_chunks", "parse_json", "read_fields"]

MAX_JSON: Final = 4 << 20
"""Bytes. A create body with an inlined seccomp profile has some tens of thousands."""


async def read_fields(request: web.Request, *, empty: bool = False) -> Fields:
    """Read a request's body as one JSON object.

    :param empty: an absent body is an empty object.
    :raises InvalidRequest: it is absent, cut short, no object, or says something twice.
    :raises BodyTooLarge: it is longer than :data:`MAX_JSON`.
    """
    length = request.content_length
    if length is not None and length > MAX_JSON:
        raise _too_large()
    if not request.can_read_body:
        data = b""
    else:
        _check_content_type(request)
        data = await _read(request)
    if not data.strip():
        if empty:
            return Fields({})
        raise InvalidRequest("got EOF while reading request body", hint="send a JSON object")
    return Fields(parse_json(data))


def _check_content_type(request: web.Request) -> None:
    # A browser sends this type to a stranger only after asking (CORS), unlike a form's text/plain
    # or none at all: no page can make a user's browser create a container.
    given = request.headers.get("Content-Type", "")
    if not given or request.content_type != "application/json":
        raise InvalidRequest(
            f"unsupported Content-Type header ({given}): must be 'application/json'"
        )


async def _read(request: web.Request) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
        if size > MAX_JSON:
            raise _too_large()
        pieces.append(piece)
    return b"".join(pieces)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the request's body is larger than {MAX_JSON} bytes")


def parse_json(data: bytes) -> dict[str, Any]:
    """Parse one JSON object, strictly: UTF-8, no repeated key, no NaN, nothing behind it.

    Null is an empty one, as Go takes it: docker 20.10 sends that for a ``commit`` without changes.

    :raises InvalidRequest: it is something else.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant
        )
    except InvalidRequest:
        raise
    except UnicodeDecodeError:
        raise InvalidRequest("invalid JSON: it is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest("invalid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"invalid JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("invalid JSON: an object is expected")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidRequest(f"invalid JSON: the key {key!r} is given twice")
            seen.add(key)
    return value


def _constant(text: str) -> NoReturn:
    raise InvalidRequest(f"invalid JSON: {text} is no JSON value")


async def body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes; the client is not read faster than this is.

    A client that goes in the midst of it raises ConnectionError here, so that what is made of an
    archive cut short is not taken for the whole.
    """
    async for piece in request.content.iter_any():
        yield piece
