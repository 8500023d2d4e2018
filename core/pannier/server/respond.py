"""How answers are written: JSON bodies at once, streams in pieces with back-pressure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pannier.server.call import Call

__all__ = [
    "JSON_TYPE",
    "closed",
    "created",
    "encode",
    "json_bytes",
    "json_response",
    "no_content",
    "open_stream",
    "send_chunks",
    "stream_chunks",
]

JSON_TYPE: Final = "application/json"

# Beyond this, one write to the socket is copied more often than it is sent.
_PIECE: Final = 256 << 10

_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode(value: object) -> bytes:
    """Return *value* as a line of compact JSON, ASCII only (undecodable names stay readable)."""
    return _encode(value).encode("ascii") + b"\n"


def json_bytes(body: bytes, status: int = 200) -> web.Response:
    """Return an answer of JSON that is encoded already."""
    return web.Response(body=body, status=status, content_type=JSON_TYPE)


def json_response(value: object, status: int = 200) -> web.Response:
    """Return an answer with *value* as its JSON body."""
    return json_bytes(encode(value), status)


def created(value: object) -> web.Response:
    """Return *value* with the status 201."""
    return json_response(value, 201)


def no_content() -> web.Response:
    """Return the empty answer of what was done."""
    return web.Response(status=204)


async def open_stream(
    call: Call,
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send the head of an answer whose body follows in pieces; the client has it at once."""
    response = web.StreamResponse(headers={**call.services.headers, **(headers or {})})
    response.content_type = content_type
    if call.request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(call.request)
    return response


@contextlib.asynccontextmanager
async def closed(iterator: AsyncIterator[object]) -> AsyncIterator[None]:
    """End an iterator with the block: what it holds open is let go now, not at some collection."""
    try:
        yield
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


async def send_chunks(response: web.StreamResponse, chunks: AsyncIterator[bytes]) -> None:
    """Write every chunk, no faster than the client reads."""
    async with closed(chunks):
        async for chunk in chunks:
            if len(chunk) <= _PIECE:
                await response.write(chunk)
                continue
            view = memoryview(chunk)
            for start in range(0, len(view), _PIECE):
                await response.write(view[start : start + _PIECE])


async def stream_chunks(
    call: Call, chunks: AsyncIterator[bytes], content_type: str
) -> web.StreamResponse:
    """Answer with the whole of *chunks*."""
    response = await open_stream(call, content_type)
    await send_chunks(response, chunks)
    await response.write_eof()
    return response
