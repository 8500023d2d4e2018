"""``pannier system df``."""

from __future__ import annotations

from pannier.cli.command import Command, flag, text
from pannier.cli.listing import print_rows
from pannier.cli.units import human_size

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
    if values.on("verbose"):
        from pannier.cli.commands.dfverbose import print_verbose

        cached = _cache_size(found.get("BuildCache") or [])
        print_verbose(ctx, found, values.text("format"), cached)
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
    cached = _cache_size(cache)
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


def _cache_size(cache: list[dict[str, Any]]) -> int:
    """Return the bytes that only builds hold."""
    return sum(one.get("Size", 0) for one in cache if not one.get("Shared"))


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
