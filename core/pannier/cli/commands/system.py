"""``pannier info``."""

from __future__ import annotations

import json

from pannier import __version__
from pannier.cli.command import Command, text
from pannier.cli.units import human_binary
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["INFO"]

_LINES = (
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
)
_HOST_LINES = (
    ("Default Runtime", "DefaultRuntime"),
    ("Init Binary", "InitBinary"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
)
_SWITCHES = (
    ("Debug Mode", "Debug"),
    ("Experimental", "ExperimentalBuild"),
    ("Live Restore Enabled", "LiveRestoreEnabled"),
)
_PROXIES = (
    ("HTTP Proxy", "HttpProxy"),
    ("HTTPS Proxy", "HttpsProxy"),
    ("No Proxy", "NoProxy"),
)


def _info(ctx: Context, values: Values) -> int:
    failure: PannierError | None = None
    found: dict[str, Any] = {}
    try:
        found = ctx.client.get("/info")
    except PannierError as error:
        failure = error
    found["ClientInfo"] = {"Version": __version__}
    format = values.text("format")
    if format == "json":
        ctx.out(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    elif format:
        from pannier.cli.template import Template

        if failure is not None:
            raise failure
        ctx.out(Template(format).render(found))
    else:
        _show(ctx, found, reached=failure is None)
    if failure is not None:
        ctx.report(failure)
        return 1
    return 0


def _show(ctx: Context, found: dict[str, Any], *, reached: bool) -> None:
    ctx.out("Client: Pannier")
    ctx.out(f" Version:    {__version__}")
    ctx.out("\nServer:")
    if reached:
        _show_server(ctx, found)


def _show_server(ctx: Context, found: dict[str, Any]) -> None:
    ctx.out(f" Containers: {found.get('Containers', 0)}")
    for state in ("Running", "Paused", "Stopped"):
        ctx.out(f"  {state}: {found.get(f'Containers{state}', 0)}")
    ctx.out(f" Images: {found.get('Images', 0)}")
    for title, key in _LINES:
        _line(ctx, title, found.get(key))
        if key == "Driver":
            for name, value in found.get("DriverStatus") or ():
                ctx.out(f"  {name}: {value}")
    plugins = found.get("Plugins") or {}
    ctx.out(" Plugins:")
    for kind in ("Volume", "Network", "Log"):
        ctx.out(f"  {kind}: {' '.join(plugins.get(kind) or [])}".rstrip())
    _line(ctx, "Runtimes", " ".join(sorted(found.get("Runtimes") or {})))
    for title, key in _HOST_LINES:
        _line(ctx, title, found.get(key))
    _line(ctx, "Total Memory", human_binary(found.get("MemTotal", 0)))
    for title, key in (("Name", "Name"), ("ID", "ID"), ("Docker Root Dir", "DockerRootDir")):
        _line(ctx, title, found.get(key))
    _security(ctx, found.get("SecurityOptions") or [])
    _settings(ctx, found)
    for warning in found.get("Warnings") or ():
        ctx.err(str(warning))


def _settings(ctx: Context, found: dict[str, Any]) -> None:
    for title, key in _SWITCHES:
        _line(ctx, title, str(bool(found.get(key))).lower())
    for title, key in _PROXIES:
        _line(ctx, title, found.get(key))


def _security(ctx: Context, options: list[str]) -> None:
    if options:
        ctx.out(" Security Options:")
    for option in options:
        fields = dict(one.partition("=")[::2] for one in option.split(","))
        ctx.out(f"  {fields.pop('name', option)}")
        for key, value in fields.items():
            ctx.out(f"   {key.title()}: {value}")


def _line(ctx: Context, title: str, value: object) -> None:
    if value not in (None, ""):
        ctx.out(f" {title}: {value}")


INFO = Command(
    "info",
    "Display system-wide information",
    _info,
    flags=[text("-f,--format", "Format output using a Go template, or json")],
    example="pannier info --format '{{.Driver}} {{.CgroupVersion}}'",
)
