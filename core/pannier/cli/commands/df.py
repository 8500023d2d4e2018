"""``pannier system df``."""

from __future__ import annotations

import time

from pannier.cli.command import Command, flag, text
from pannier.cli.commands.ps import container_row
from pannier.cli.listing import print_rows
from pannier.cli.references import split_reference
from pannier.cli.tables import table
from pannier.cli.units import ago, human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["DF", "usage_rows"]

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_ACTIVE_STATES = ("running", "paused", "restarting")


def _df(ctx: Context, values: Values) -> int:
    found = ctx.client.get("/system/df")
    if values.on("verbose") and not values.text("format"):
        _verbose(ctx, found)
        return 0
    rows = usage_rows(found)
    print_rows(ctx, rows, format=values.text("format"), headers=_HEADERS, columns=tuple(_HEADERS))
    return 0


def usage_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    """Return the four rows: how many, how many in use, how large, how much could go."""
    images, containers = found.get("Images") or [], found.get("Containers") or []
    volumes, cache = found.get("Volumes") or [], found.get("BuildCache") or []
    layers = found.get("LayersSize") or 0
    used = sum(one.get("Size", 0) for one in images if one.get("Containers", 0) > 0)
    shared = sum(one.get("SharedSize", 0) for one in images if one.get("SharedSize", 0) > 0)
    active = [one for one in containers if one.get("State") in _ACTIVE_STATES]
    written = sum(one.get("SizeRw") or 0 for one in containers)
    idle = written - sum(one.get("SizeRw") or 0 for one in active)
    sizes = [(one.get("UsageData") or {}) for one in volumes]
    held = sum(max(one.get("Size", 0), 0) for one in sizes)
    free = sum(max(one.get("Size", 0), 0) for one in sizes if one.get("RefCount") == 0)
    cached = sum(one.get("Size", 0) for one in cache if not one.get("Shared"))
    unused = sum(
        one.get("Size", 0) for one in cache if not one.get("InUse") and not one.get("Shared")
    )
    return [
        _row(
            "Images",
            len(images),
            sum(one.get("Containers", 0) > 0 for one in images),
            layers,
            max(layers - max(used - shared, 0), 0),
            share=True,
        ),
        _row("Containers", len(containers), len(active), written, idle, share=True),
        _row(
            "Local Volumes",
            len(volumes),
            sum(one.get("RefCount", 0) > 0 for one in sizes),
            held,
            free,
            share=True,
        ),
        _row(
            "Build Cache",
            len(cache),
            sum(bool(one.get("InUse")) for one in cache),
            cached,
            unused,
            share=False,
        ),
    ]


def _row(
    kind: str, total: int, active: int, size: int, reclaimable: int, *, share: bool
) -> dict[str, str]:
    text = human_size(reclaimable)
    if share and size > 0:
        text += f" ({reclaimable * 100 // size}%)"
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": text,
    }


def _verbose(ctx: Context, found: dict[str, Any]) -> None:
    now = time.time()
    _section(
        ctx,
        "Images space usage:",
        (
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS",
        ),
        [row for one in found.get("Images") or [] for row in _image_rows(one, now)],
    )
    rows = [container_row(one, whole=False, now=now) for one in found.get("Containers") or []]
    for row in rows:
        row["Size"] = row["Size"].partition(" (virtual")[0]
    names = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    _section(
        ctx,
        "Containers space usage:",
        ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"),
        [[row[name] for name in names] for row in rows],
    )
    _section(
        ctx,
        "Local Volumes space usage:",
        ("VOLUME NAME", "LINKS", "SIZE"),
        [
            [
                str(one["Name"]),
                str((one.get("UsageData") or {}).get("RefCount", 0)),
                human_size((one.get("UsageData") or {}).get("Size", 0)),
            ]
            for one in found.get("Volumes") or []
        ],
    )


def _image_rows(one: dict[str, Any], now: float) -> list[list[str]]:
    size, shared = one.get("Size", 0), max(one.get("SharedSize", 0), 0)
    rest = [
        short_id(one["Id"]),
        ago(one.get("Created", 0), now),
        human_size(size, 3),
        human_size(shared),
        human_size(size - shared),
        str(max(one.get("Containers", 0), 0)),
    ]
    names = one.get("RepoTags") or ["<none>:<none>"]
    return [[*split_reference(name), *rest] for name in names]


def _section(ctx: Context, title: str, headers: tuple[str, ...], rows: list[list[str]]) -> None:
    ctx.out(f"{title}\n")
    for line in table(headers, rows):
        ctx.out(line)
    ctx.out("")


DF = Command(
    "system df",
    "Show disk usage",
    _df,
    flags=[
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        flag("-v,--verbose", "Show detailed information on space usage"),
    ],
    example="pannier system df -v",
)
