"""``pannier volume``: create, ls, rm."""

from __future__ import annotations

from pannier.cli.command import Command, UsageError, arg, flag, many, text
from pannier.cli.listing import map_label, print_rows
from pannier.cli.readers import filters, key_values
from pannier.cli.units import human_size
from pannier.client.api import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["CREATE", "LS", "RM", "volume_row"]

_HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
}


def _create(ctx: Context, values: Values) -> int:
    name = values.text("name")
    if name and values.args:
        raise UsageError(
            "conflicting options: cannot specify a volume-name through both --name "
            "and as a positional arg",
            code=1,
        )
    body = {
        "Name": values.args[0] if values.args else name,
        "Driver": values.text("driver"),
        "DriverOpts": key_values(values.many("opt"), what="option"),
        "Labels": key_values(values.many("label")),
    }
    ctx.out(str(ctx.client.post("/volumes/create", None, body)["Name"]))
    return 0


def _ls(ctx: Context, values: Values) -> int:
    found = ctx.client.get("/volumes", {"filters": filters(values.many("filter"))})
    volumes = sorted(found.get("Volumes") or [], key=lambda one: str(one["Name"]))
    if values.on("quiet") and not values.text("format"):
        for one in volumes:
            ctx.out(one["Name"])
        return 0
    rows = [volume_row(one) for one in volumes]
    headers = {**_HEADERS, "Availability": "AVAILABILITY", "Group": "GROUP"}
    columns = ("Driver", "Name")
    print_rows(ctx, rows, format=values.text("format"), headers=headers, columns=columns)
    return 0


def volume_row(one: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a volume that the API lists; what was not measured is N/A."""
    labels = one.get("Labels") or {}
    usage = one.get("UsageData")
    return {
        "Driver": one["Driver"],
        "Name": one["Name"],
        "Scope": one.get("Scope", "local"),
        "Mountpoint": one.get("Mountpoint", ""),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Label": map_label(labels),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": human_size(usage["Size"]) if usage and usage["Size"] >= 0 else "N/A",
        "Status": "N/A",
        "Availability": "N/A",
        "Group": "N/A",
    }


def _rm(ctx: Context, values: Values) -> int:
    query = {"force": values.on("force") or None}
    return ctx.each(values.args, lambda name: ctx.client.delete(f"/volumes/{quote(name)}", query))


CREATE = Command(
    "volume create",
    "Create a volume",
    _create,
    flags=[
        text("-d,--driver", "Specify volume driver name", default="local"),
        many("--label", "Set metadata for a volume"),
        text("--name", "Specify volume name"),
        many("-o,--opt", "Set driver specific options", metavar="map"),
    ],
    args=[arg("VOLUME", least=0)],
    example="pannier volume create --label purpose=cache data",
)
LS = Command(
    "volume ls",
    "List volumes",
    _ls,
    flags=[
        many("-f,--filter", "Provide filter values (e.g. dangling=true)", metavar="filter"),
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        flag("-q,--quiet", "Only display volume names"),
    ],
    example="pannier volume ls -q --filter dangling=true",
)
RM = Command(
    "volume rm",
    "Remove one or more volumes",
    _rm,
    flags=[flag("-f,--force", "Force the removal of one or more volumes")],
    args=[arg("VOLUME", most=None, complete="volume")],
    example="pannier volume rm data",
)
