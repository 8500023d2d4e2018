"""``pannier cp``."""

from __future__ import annotations

import base64
import json
import os
import posixpath
import stat

from pannier.cli.command import Command, UsageError, arg, flag
from pannier.cli.creating import container_path
from pannier.cli.hosttar import Count, pack, unpack
from pannier.cli.session import write_all
from pannier.cli.units import human_size
from pannier.client import APIError, ProtocolError
from pannier.client.api import read_pieces
from pannier.errors import InvalidRequest, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["CP", "split_place"]

#: Bits of Go's file modes, in which the API gives a path's kind.
_GO_FOLDER = 1 << 31
_GO_SYMLINK = 1 << 27


def split_place(text: str) -> tuple[str, str]:
    """Return the container (empty for this host) and the path of ``[CONTAINER:]PATH``.

    A path with a colon is written with a leading ``./`` or ``/``.
    """
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path


def _cp(ctx: Context, values: Values) -> int:
    source, target = values.args
    from_container, from_path = split_place(source)
    to_container, to_path = split_place(target)
    if from_container and to_container:
        raise UsageError("copying between containers is not supported", code=1)
    if not from_container and not to_container:
        raise UsageError(
            "must specify at least one container source",
            code=1,
            hint="for example: pannier cp web:/etc/hosts .",
        )
    if not from_path or not to_path:
        raise UsageError("neither source nor destination may be empty", code=1)
    count = Count()
    if from_container:
        _out(ctx, values, (from_container, from_path), to_path, count)
    else:
        _into(ctx, values, from_path, (to_container, to_path), count)
    silent = values.on("quiet") or "-" in (from_path, to_path)
    if not silent and os.isatty(2):
        ctx.err(f"Successfully copied {human_size(count.bytes, 3)} to {_shown(target)}")
    return 0


def _shown(target: str) -> str:
    container, path = split_place(target)
    if container:
        return target
    return os.path.abspath(path) + ("/" if path.endswith("/") else "")  # noqa: PTH100 - text, as given


def _contents(path: str) -> bool:
    """Say whether a path means a folder's contents: it ends with ``/.``, or is ``.``."""
    return posixpath.basename(path.rstrip("/")) == "."


# -- out of a container --------------------------------------------------------------------------


def _stat(headers: dict[str, str]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(
            base64.b64decode(headers["x-docker-container-path-stat"])
        )
    except (KeyError, ValueError) as error:
        raise ProtocolError("the daemon does not say what the path is") from error
    return found


def _lookup(ctx: Context, container: str, path: str) -> dict[str, Any] | None:
    """Return what the daemon says of a path in a container; None where there is nothing."""
    try:
        answer = ctx.client.request(
            "HEAD", f"{container_path(container)}/archive", query={"path": path}
        )
    except APIError as error:
        if error.code != 404:
            raise
        return None
    answer.read()
    return _stat(answer.headers)


def _resolve(ctx: Context, container: str, path: str) -> tuple[str, dict[str, Any] | None]:
    """Return where a path leads when it is a symbolic link, and what is there."""
    found = _lookup(ctx, container, path)
    if found is not None and found["mode"] & _GO_SYMLINK and found.get("linkTarget"):
        path = posixpath.join(posixpath.dirname(path), found["linkTarget"])
        found = _lookup(ctx, container, path)
    return path, found


def _absolute(path: str) -> str:
    """Return a path of a container from its root, keeping the end that has a meaning."""
    rooted = posixpath.normpath("/" + path).replace("//", "/", 1)
    if _contents(path):
        return rooted.rstrip("/") + "/."
    return rooted + "/" if path.endswith("/") and rooted != "/" else rooted


def _out(ctx: Context, values: Values, source: tuple[str, str], target: str, count: Count) -> None:
    container, path = source[0], _absolute(source[1])
    wanted = path
    if values.on("follow-link"):
        wanted, _ = _resolve(ctx, container, path)
    try:
        answer = ctx.client.request(
            "GET", f"{container_path(container)}/archive", query={"path": wanted}
        )
    except APIError as error:
        if error.code == 404 and "no such container" not in str(error).lower():
            raise NotFound(f"Could not find the file {path} in container {container}") from error
        raise
    if target == "-":
        for piece in answer.chunks():
            write_all(1, piece)
        return
    is_folder = bool(_stat(answer.headers)["mode"] & _GO_FOLDER)
    folder, name = _host_target(path, target, is_folder=is_folder)
    unpack(count.over(answer.chunks()), folder, name, owners=values.on("archive"))


def _host_target(path: str, target: str, *, is_folder: bool) -> tuple[str, str]:
    """Return the folder on this host to unpack in, and the name to give (empty: contents)."""
    base = posixpath.basename(path.rstrip("/"))
    resolved = os.path.realpath(target)
    if os.path.isdir(resolved):  # noqa: PTH112 - paths are text all through here
        whole = not is_folder or base not in ("", ".")
        return resolved, base if whole else ""
    if os.path.exists(resolved):  # noqa: PTH110 - as above
        if is_folder:
            raise InvalidRequest(f"cannot copy directory {path} onto the file {target}")
    elif target.endswith("/") and not is_folder:
        raise NotFound(f"destination directory {target} does not exist", hint="create it first")
    folder, name = os.path.split(resolved)
    if not os.path.isdir(folder):  # noqa: PTH112 - as above
        raise NotFound(f"destination directory {folder} does not exist", hint="create it first")
    return folder, name


# -- into a container ----------------------------------------------------------------------------


def _into(ctx: Context, values: Values, source: str, target: tuple[str, str], count: Count) -> None:
    container, path = target[0], _absolute(target[1])
    try:
        resolved, found = _resolve(ctx, container, path)
    except APIError:
        # An answer to HEAD has no words; the copy itself is refused with some.
        resolved, found = path, None
    exists = found is not None
    is_folder = exists and bool(found and found["mode"] & _GO_FOLDER)
    query: dict[str, Any] = {"noOverwriteDirNonDir": "true"}
    if values.on("archive"):
        query["copyUIDGID"] = "true"
    upload = None
    if source == "-":
        if exists and not is_folder:
            raise InvalidRequest(f'destination "{container}:{target[1]}" must be a directory')
        query["path"], upload = resolved, read_pieces(0)
    else:
        local, contents, local_folder = _host_source(source, follow=values.on("follow-link"))
        name = os.path.basename(os.path.abspath(source))  # noqa: PTH100, PTH119 - text, as given
        if is_folder:
            query["path"] = resolved
            contents = contents and local_folder
        else:
            if exists and local_folder:
                raise InvalidRequest(f"cannot copy directory {source} onto a file: {path}")
            if not exists and path.endswith("/") and not local_folder:
                raise NotFound(f"no such directory in the container: {path}")
            query["path"], name = posixpath.split(resolved.rstrip("/"))
            contents = False
        upload = count.over(pack(local, name, contents=contents))
    ctx.client.request(
        "PUT", f"{container_path(container)}/archive", query=query, upload=upload
    ).read()


def _host_source(source: str, *, follow: bool) -> tuple[str, bool, bool]:
    """Return the path to pack, whether only its contents are meant, and whether it is a folder."""
    contents = _contents(source)
    path = source.rstrip("/") or "/"
    try:
        if follow or contents or source.endswith("/"):
            path = os.path.realpath(path, strict=True)
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        raise NotFound(f"cannot copy {source}: {error.strerror}") from error
    if source.endswith("/") and not is_folder:
        raise InvalidRequest(f"cannot copy {source}: not a directory")
    return path, contents, is_folder


CP = Command(
    "cp",
    "Copy files/folders between a container and the local filesystem",
    _cp,
    flags=[
        flag("-a,--archive", "Archive mode (copy all uid/gid information)"),
        flag("-L,--follow-link", "Always follow symbol link in SRC_PATH"),
        flag("-q,--quiet", "Suppress progress output during copy"),
    ],
    args=[
        arg("[CONTAINER:]SRC_PATH|-", complete="place"),
        arg("[CONTAINER:]DEST_PATH|-", complete="place"),
    ],
    example="pannier cp web:/etc/hosts ./hosts",
)
