"""``pannier version``."""

from __future__ import annotations

from pannier import __version__
from pannier.cli.command import Command, flag, text
from pannier.client import API_VERSION
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["VERSION"]


def _client_facts() -> dict[str, Any]:
    import os
    import sys

    python = ".".join(str(part) for part in sys.version_info[:3])
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "PythonVersion": python,
        "Os": "linux",
        "Arch": machine,
    }


def _version(ctx: Context, values: Values) -> int:
    if values.on("short"):
        ctx.out(f"pannier {__version__}")
        return 0
    facts: dict[str, Any] = {"Client": _client_facts(), "Server": None}
    failure: PannierError | None = None
    if not values.on("client"):
        try:
            facts["Server"] = ctx.client.get("/version")
        except PannierError as error:
            failure = error
    try:
        _tell(ctx, facts, values.text("format"))
    except PannierError as error:
        # A format that asks for what nobody said is no failure of its own.
        failure = failure or error
    if failure is None:
        return 0
    ctx.report(failure)
    return 1


def _tell(ctx: Context, facts: dict[str, Any], format: str) -> None:
    if not format:
        _show(ctx, facts)
        return
    from pannier.cli.template import Template

    ctx.out(Template("{{json .}}" if format == "json" else format).render(facts))


def _show(ctx: Context, facts: dict[str, Any]) -> None:
    client, server = facts["Client"], facts["Server"]
    ctx.out("Client:")
    ctx.out(f" Version:           {client['Version']}")
    ctx.out(f" API version:       {client['ApiVersion']}")
    ctx.out(f" Python version:    {client['PythonVersion']}")
    ctx.out(f" OS/Arch:           {client['Os']}/{client['Arch']}")
    if not server:
        return
    platform = (server.get("Platform") or {}).get("Name", "")
    ctx.out(f"\nServer: {platform}".rstrip())
    components = server.get("Components") or [{"Name": "Engine", "Version": server["Version"]}]
    for component in components:
        details = component.get("Details") or {}
        ctx.out(f" {component['Name']}:")
        ctx.out(f"  Version:          {component['Version']}")
        minimum = details.get("MinAPIVersion")
        for key, value in details.items():
            if key == "ApiVersion":
                ctx.out(f"  API version:      {value} (minimum version {minimum})")
            elif key == "Os":
                ctx.out(f"  OS/Arch:          {value}/{details.get('Arch', '')}")
            elif key not in ("MinAPIVersion", "Arch", "BuildTime", "KernelVersion"):
                ctx.out(f"  {_words(key) + ':':<17} {value}")


def _words(key: str) -> str:
    """Return ``GoVersion`` as ``Go version``."""
    spaced = "".join(f" {one.lower()}" if one.isupper() else one for one in key[1:])
    return key[0] + spaced


VERSION = Command(
    "version",
    "Show the Pannier version information",
    _version,
    flags=[
        flag("--client", "Show the client only; nothing is asked of a daemon"),
        text("-f,--format", "Format output using a Go template, or json"),
        flag("--short", "Show the client's version on one line"),
    ],
    example="pannier version --format '{{.Client.Version}}'",
)
