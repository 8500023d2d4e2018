"""``pannier context``: ls, use, show, inspect. The contexts are docker's."""

from __future__ import annotations

import json
import os

from pannier.cli.command import Command, arg, flag, text
from pannier.cli.listing import print_rows
from pannier.client.address import DEFAULT_SOCKET, docker_folder
from pannier.client.contexts import DEFAULT, Contexts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["INSPECT", "LS", "SHOW", "USE"]

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Current": "CURRENT",
}


def _contexts() -> Contexts:
    return Contexts(docker_folder(os.environ))


def _current(ctx: Context, contexts: Contexts) -> str:
    """Return the name of the context that a command would use."""
    if ctx.host or (
        not ctx.context and (os.environ.get("PANNIER_HOST") or os.environ.get("DOCKER_HOST"))
    ):
        return DEFAULT
    return ctx.context or os.environ.get("DOCKER_CONTEXT") or contexts.current()


def _default_host() -> str:
    named = os.environ.get("PANNIER_HOST") or os.environ.get("DOCKER_HOST")
    return named or f"unix://{DEFAULT_SOCKET}"


def _ls(ctx: Context, values: Values) -> int:
    contexts = _contexts()
    current = _current(ctx, contexts)
    found: list[tuple[str, str, str]] = [(DEFAULT, "", _default_host())]
    for name in contexts.names():
        metadata = contexts.document(name).get("Metadata") or {}
        host = str(contexts.endpoint(name)["Host"])
        found.append((name, str(metadata.get("Description", "")), host))
    if values.on("quiet"):
        for name, _, _ in found:
            ctx.out(name)
        return 0
    rows: list[dict[str, Any]] = []
    for name, description, host in found:
        star = " *" if name == current and not values.text("format") else ""
        rows.append(
            {
                "Name": name + star,
                "Description": description,
                "DockerEndpoint": host,
                "Current": name == current,
            }
        )
    columns = ("Name", "Description", "DockerEndpoint")
    print_rows(ctx, rows, format=values.text("format"), headers=_HEADERS, columns=columns)
    return 0


def _use(ctx: Context, values: Values) -> int:
    name = values.args[0]
    _contexts().use(name)
    ctx.out(name)
    if os.environ.get("PANNIER_HOST") or os.environ.get("DOCKER_HOST"):
        ctx.err("WARNING: PANNIER_HOST or DOCKER_HOST is set, and overrides the current context")
    return 0


def _show(ctx: Context, values: Values) -> int:
    del values
    ctx.out(_current(ctx, _contexts()))
    return 0


def _inspect(ctx: Context, values: Values) -> int:
    contexts = _contexts()
    found = []
    for name in values.args or [_current(ctx, contexts)]:
        if name == DEFAULT:
            endpoint = {"Host": _default_host(), "SkipTLSVerify": False}
            found.append({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}})
        else:
            found.append(contexts.document(name))
    ctx.out(json.dumps(found, indent=4, ensure_ascii=False))
    return 0


LS = Command(
    "context ls",
    "List contexts",
    _ls,
    flags=[
        flag("-q,--quiet", "Only show context names"),
        text("--format", "Format output using a Go template, json or table"),
    ],
    example="pannier context ls",
)
USE = Command(
    "context use",
    "Set the current context",
    _use,
    args=[arg("CONTEXT")],
    example="pannier context use far",
)
SHOW = Command(
    "context show", "Print the name of the current context", _show, example="pannier context show"
)
INSPECT = Command(
    "context inspect",
    "Display detailed information on one or more contexts",
    _inspect,
    args=[arg("CONTEXT", least=0, most=None)],
    example="pannier context inspect far",
)
