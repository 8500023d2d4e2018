"""``pannier context``: create, update, rm, export, import. The contexts are docker's."""

from __future__ import annotations

import os
import sys

from pannier.cli.command import Command, UsageError, arg, flag, many, text
from pannier.cli.commands.contexts import OF_DEFAULT, current, default_host
from pannier.client.address import docker_folder, parse_address
from pannier.client.contextfiles import ContextFiles, check_name
from pannier.client.contexts import DEFAULT
from pannier.errors import Conflict, InvalidRequest, NotFound, PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["CREATE", "EXPORT", "IMPORT", "RM", "UPDATE"]

_FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
_KEYS = ("from", "host", "skip-tls-verify", *_FILES)


def _files() -> ContextFiles:
    return ContextFiles(docker_folder(os.environ))


def _endpoint(values: Values) -> dict[str, str]:
    """Return what ``--docker`` says: ``host=...,ca=...,...``."""
    found = {}
    for given in values.many("docker"):
        for pair in given.split(","):
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(
                    f'invalid argument "{given}" for "--docker" flag: '
                    f"{pair} must be formatted as key=value"
                )
            if key not in _KEYS:
                raise InvalidRequest(
                    f"unrecognized config key: {key}", hint=f"there are {', '.join(_KEYS)}"
                )
            found[key] = value
    return found


def _made_of(wanted: dict[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return an endpoint and its certificates."""
    if not wanted.get("host"):
        raise InvalidRequest("a docker endpoint needs a host", hint="--docker host=tcp://far:2376")
    parse_address(wanted["host"])
    certificates = {}
    for key, file in _FILES.items():
        if path := wanted.get(key):
            try:
                with open(path, "rb") as opened:  # noqa: PTH123 - as everywhere in the client
                    certificates[file] = opened.read()
            except OSError as error:
                raise InvalidRequest(
                    f"unable to create docker endpoint config: open {path}: {error.strerror}"
                ) from error
    skip = wanted.get("skip-tls-verify", "false").lower() in ("1", "t", "true")
    return {"Host": wanted["host"], "SkipTLSVerify": skip}, certificates


def _copied(
    ctx: Context, files: ContextFiles, name: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return another context's document, and its certificates."""
    if name == DEFAULT:
        endpoint = {"Host": default_host(ctx), "SkipTLSVerify": False}
        return {"Metadata": {"Description": OF_DEFAULT}, "Endpoints": {"docker": endpoint}}, {}
    return files.document(name), files.certificates(name)


def _create(ctx: Context, values: Values) -> int:
    files, name = _files(), values.args[0]
    files.check_new(name)
    wanted = _endpoint(values)
    source = values.text("from") or (None if wanted else current(ctx))
    if source:
        if wanted:
            raise InvalidRequest("cannot use --docker flag when --from is set")
        document, certificates = _copied(ctx, files, source)
    elif wanted.get("from"):
        copied, certificates = _copied(ctx, files, wanted["from"])
        document = {"Metadata": {}, "Endpoints": copied["Endpoints"]}
    else:
        endpoint, certificates = _made_of(wanted)
        document = {"Metadata": {}, "Endpoints": {"docker": endpoint}}
    files.save(name, _with_description(document, values), certificates)
    return _done(ctx, name, "created")


def _with_description(document: dict[str, Any], values: Values) -> dict[str, Any]:
    if not values.given("description"):
        return document
    metadata = (document.get("Metadata") or {}) | {"Description": values.text("description")}
    return document | {"Metadata": metadata}


def _update(ctx: Context, values: Values) -> int:
    files, name = _files(), values.args[0]
    check_name(name)
    document, certificates = files.document(name), files.certificates(name)
    if wanted := _endpoint(values):
        if wanted.get("from"):
            copied, certificates = _copied(ctx, files, wanted["from"])
            endpoint = copied["Endpoints"]["docker"]
        else:
            endpoint, certificates = _made_of(wanted)
        document |= {"Endpoints": (document.get("Endpoints") or {}) | {"docker": endpoint}}
    files.save(name, _with_description(document, values), certificates)
    return _done(ctx, name, "updated")


def _done(ctx: Context, name: str, what: str) -> int:
    ctx.out(name)
    ctx.err(f'Successfully {what} context "{name}"')
    return 0


def _rm(ctx: Context, values: Values) -> int:
    files, forced = _files(), values.on("force")

    def remove(name: str) -> None:
        if name == DEFAULT:
            raise InvalidRequest(f'context "{DEFAULT}" cannot be removed')
        if not forced:
            files.document(name)
            if name == current(ctx):
                raise Conflict(f'context "{name}" is in use, set -f flag to force remove')
        files.remove(name)

    return ctx.each(values.args, remove)


def _export(ctx: Context, values: Values) -> int:
    name, *rest = values.args
    path = rest[0] if rest else f"{name}.dockercontext"
    packed = _files().pack(name)
    if path == "-":
        if sys.stdout.isatty():
            raise InvalidRequest("cowardly refusing to export to a terminal, specify a file path")
        sys.stdout.buffer.write(packed)
        return 0
    try:
        # Keys are in it: nobody else may read it, and nothing that is there is written over.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as made:
            made.write(packed)
    except OSError as error:
        raise PannierError(f"open {path}: {error.strerror}", hint="name another file") from error
    ctx.err(f'Written file "{path}"')
    return 0


def _import(ctx: Context, values: Values) -> int:
    files, (name, path) = _files(), values.args
    files.check_new(name)
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as opened:  # noqa: PTH123 - as everywhere in the client
                data = opened.read()
    except OSError as error:
        raise NotFound(f"open {path}: {error.strerror}", hint="is the path right?") from error
    files.unpack(name, data)
    return _done(ctx, name, "imported")


_DOCKER = many(
    "--docker",
    f"The endpoint: KEY=VALUE,... of {', '.join(_KEYS)}",
    metavar="stringToString",
)
_DESCRIPTION = text("--description", "Description of the context")

CREATE = Command(
    "context create",
    "Create a context",
    _create,
    flags=[_DESCRIPTION, _DOCKER, text("--from", "Create context from a named context")],
    args=[arg("CONTEXT")],
    example="pannier context create far --docker host=ssh://root@far",
)
UPDATE = Command(
    "context update",
    "Update a context",
    _update,
    flags=[_DESCRIPTION, _DOCKER],
    args=[arg("CONTEXT", complete="context")],
    example="pannier context update far --description 'the one in the cellar'",
)
RM = Command(
    "context rm",
    "Remove one or more contexts",
    _rm,
    flags=[flag("-f,--force", "Force the removal of a context in use")],
    args=[arg("CONTEXT", complete="context", most=None)],
    example="pannier context rm far",
)
EXPORT = Command(
    "context export",
    "Export a context, with its keys, to a tar archive FILE or - for standard output",
    _export,
    args=[arg("CONTEXT", complete="context"), arg("FILE", least=0)],
    example="pannier context export far far.dockercontext",
)
IMPORT = Command(
    "context import",
    "Import a context from a tar or zip file, or - for standard input",
    _import,
    args=[arg("CONTEXT"), arg("FILE")],
    example="pannier context import far far.dockercontext",
)
