"""A container's files: the whole as a tar stream, and parts of it in and out."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pannier.errors import InvalidRequest
from pannier.server.body import body_chunks
from pannier.server.call import Route
from pannier.server.respond import encode, open_stream, send_chunks, stream_chunks
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from pannier.engine.results import PathStat
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_TAR: Final = "application/x-tar"
_STAT: Final = "X-Docker-Container-Path-Stat"


async def _export(call: Call) -> web.StreamResponse:
    chunks = await call.engine.containers.export(call.name)
    return await stream_chunks(call, chunks, "application/octet-stream")


def _path(call: Call) -> str:
    path = call.query.text("path")
    if not path:
        raise InvalidRequest("bad parameter: path cannot be empty")
    return path


def _stat_header(stat: PathStat) -> dict[str, str]:
    value = {
        "name": stat.name,
        "size": stat.size,
        "mode": stat.mode,
        "mtime": rfc3339(stat.mtime_ns),
        "linkTarget": stat.link_target,
    }
    return {_STAT: base64.b64encode(encode(value).rstrip()).decode("ascii")}


async def _stat(call: Call) -> web.StreamResponse:
    stat = await call.engine.containers.archive_stat(call.name, _path(call))
    return web.Response(headers=_stat_header(stat))


async def _get(call: Call) -> web.StreamResponse:
    stat, chunks = await call.engine.containers.archive_get(call.name, _path(call))
    response = await open_stream(call, _TAR, _stat_header(stat))
    await send_chunks(response, chunks)
    await response.write_eof()
    return response


async def _put(call: Call) -> web.StreamResponse:
    path = _path(call)

    keep_types = call.query.boolean("noOverwriteDirNonDir")
    await call.engine.containers.archive_put(
        call.name,
        path,
        body_chunks(call.request),
        no_overwrite_dir_non_dir=keep_types,
        copy_uid_gid=call.query.boolean("copyUIDGID"),
    )
    return web.Response()


ROUTES: Final = (
    Route("GET", "/containers/{name}/export", _export, stream=True),
    Route("HEAD", "/containers/{name}/archive", _stat),
    Route("GET", "/containers/{name}/archive", _get, stream=True),
    Route("PUT", "/containers/{name}/archive", _put),
)
