"""``pannier context``: ls, use, show, inspect. The contexts are docker's.

Those that change one are in :mod:`pannier.cli.commands.contextedit`.
"""

from __future__ import annotations

import json
import os

from pannier.cli.command import Command, arg, flag, text
from pannier.cli.listing import print_rows
from pannier.client.address import DEFAULT_SOCKET, docker_folder, parse_address
from pannier.client.contexts import DEFAULT, Contexts
from pannier.errors import NotFound, PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = [
    "INSPECT",
    "LS",
    "OF_DEFAULT",
    "SHOW",
    "USE",
    "contexts",
    "current",
    "default_host",
    "overriding",
]

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Current": "CURRENT",
    "Error": "ERROR",
}
OF_DEFAULT = "Current DOCKER_HOST based configuration"
"""How the default context is described."""


def contexts() -> Contexts:
    """Return the user's contexts."""
    return Contexts(docker_folder(os.environ))


def overriding() -> str:
    """Return the name of the variable that counts more than any context; empty for none."""
    return next((name for name in ("PANNIER_HOST", "DOCKER_HOST") if os.environ.get(name)), "")


def current(ctx: Context) -> str:
    """Return the name of the context that a command would use."""
    if ctx.host or (not ctx.context and overriding()):
        return DEFAULT
    return ctx.context or os.environ.get("DOCKER_CONTEXT") or contexts().current()


def default_host(ctx: Context) -> str:
    """Return the address that the default context leads to."""
    named = ctx.host or os.environ.get(overriding())
    return str(parse_address(named)) if named else f"unix://{DEFAULT_SOCKET}"


def _ls(ctx: Context, values: Values) -> int:
    known, used = contexts(), current(ctx)
    shown = [*known.names(), DEFAULT]
    if used not in shown:
        shown.append(used)
    if values.on("quiet"):
        for name in sorted(shown):
            ctx.out(name)
        return 0
    rows = []
    for name in sorted(shown):
        row: dict[str, Any] = dict.fromkeys(_HEADERS, "") | {"Name": name, "Current": name == used}
        try:
            if name == DEFAULT:
                row |= {"Description": OF_DEFAULT, "DockerEndpoint": default_host(ctx)}
            else:
                metadata = known.document(name).get("Metadata") or {}
                row["Description"] = str(metadata.get("Description", ""))
                row["DockerEndpoint"] = str(known.endpoint(name)["Host"])
        except PannierError as error:
            row["Error"] = str(error)
        if row["Current"] and values.text("format") in ("", "table"):
            row["Name"] = f"{name} *"
        rows.append(row)
    columns = ("Name", "Description", "DockerEndpoint", "Error")
    print_rows(ctx, rows, format=values.text("format"), headers=_HEADERS, columns=columns)
    _warn(ctx, "a context")
    return 0


def _warn(ctx: Context, what: str) -> None:
    if name := overriding():
        ctx.err(
            f"Warning: {name} environment variable overrides the active context. To use {what}, "
            f"either set the global --context flag, or unset {name} environment variable."
        )


def _use(ctx: Context, values: Values) -> int:
    from pannier.client.contextfiles import ContextFiles

    name = values.args[0]
    ContextFiles(docker_folder(os.environ)).use(name)
    ctx.out(name)
    ctx.err(f'Current context is now "{name}"')
    if name != DEFAULT:
        _warn(ctx, f'"{name}"')
    return 0


def _show(ctx: Context, values: Values) -> int:
    del values
    ctx.out(current(ctx))
    return 0


def _described(ctx: Context, name: str) -> dict[str, Any]:
    """Return what there is to know of a context, as docker shows it."""
    if name == DEFAULT:
        endpoint = {"Host": default_host(ctx), "SkipTLSVerify": False}
        nowhere = {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}
        return {
            "Name": name,
            "Metadata": {},
            "Endpoints": {"docker": endpoint},
            "TLSMaterial": {},
            "Storage": nowhere,
        }
    known = contexts()
    keys = known.tls_names(name)
    return known.document(name) | {
        "TLSMaterial": {"docker": keys} if keys else {},
        "Storage": {
            "MetadataPath": str(known.meta_folder(name)),
            "TLSPath": str(known.tls_folder(name)),
        },
    }


def _inspect(ctx: Context, values: Values) -> int:
    found, status = [], 0
    for name in values.args or [current(ctx)]:
        try:
            found.append(_described(ctx, name))
        except NotFound as error:
            ctx.report(error)
            status = 1
    if format := values.text("format"):
        from pannier.cli.template import Template

        for one in found:
            ctx.out(Template("{{json .}}" if format == "json" else format).render(one))
    else:
        ctx.out(json.dumps(found, indent=4, ensure_ascii=False))
    return status


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
    args=[arg("CONTEXT", complete="context")],
    example="pannier context use far",
)
SHOW = Command(
    "context show", "Print the name of the current context", _show, example="pannier context show"
)
INSPECT = Command(
    "context inspect",
    "Display detailed information on one or more contexts",
    _inspect,
    flags=[text("-f,--format", "Format output using a Go template, or json")],
    args=[arg("CONTEXT", complete="context", least=0, most=None)],
    example="pannier context inspect far",
)
