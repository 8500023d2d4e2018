"""Answers that are a line of JSON for each thing that happens, as Docker's clients read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.errors import PannierError
from pannier.images.oci import Platform
from pannier.server.body import parse_json
from pannier.server.errors import error_text
from pannier.server.parse.fields import Fields
from pannier.server.respond import JSON_TYPE, closed, encode, open_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from pannier.server.call import Call

__all__ = ["message_stream", "parse_platform"]


async def message_stream(
    call: Call,
    lines: AsyncIterator[dict[str, Any]],
    words: Callable[[str], str] = str,
    *,
    at_once: bool = False,
) -> web.StreamResponse:
    """Answer with a line of JSON for each message.

    What fails before the first one is a plain error; later the status is out already, and the
    error is a message of its own, as Docker's clients expect it.

    :param words: puts such an error's text into other words.
    :param at_once: the status goes out first, so that every error is a message.
    """
    response = await open_stream(call, JSON_TYPE) if at_once else None
    try:
        async with closed(lines):
            async for line in lines:
                if response is None:
                    response = await open_stream(call, JSON_TYPE)
                await response.write(encode(line))
    except PannierError as error:
        if response is None:
            raise
        text = words(error_text(error))
        message: dict[str, object] = {"errorDetail": {"message": text}, "error": text}
        if error.hint:
            message["hint"] = error.hint
        await response.write(encode(message))
    if response is None:
        response = await open_stream(call, JSON_TYPE)
    await response.write_eof()
    return response


def parse_platform(text: str) -> Platform | None:
    """Return the platform of a query: a word, or with Docker's newer clients a JSON object."""
    if not text:
        return None
    if text.startswith("{"):
        fields = Fields(parse_json(text.encode()), "platform")
        return Platform(
            fields.text("os", "linux"), fields.text("architecture"), fields.text("variant")
        )
    return Platform.parse(text)
