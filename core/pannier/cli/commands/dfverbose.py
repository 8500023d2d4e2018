"""``pannier system df --verbose``: each image, container, volume and piece of the build cache."""

from __future__ import annotations

import time

from pannier.cli.commands.images import image_rows
from pannier.cli.commands.ps import container_row
from pannier.cli.commands.volume import volume_row
from pannier.cli.tables import table
from pannier.cli.units import ago, human_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pannier.cli.context import Context

__all__ = ["print_verbose"]

_IMAGES = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
_VOLUMES = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_CACHE = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "Shared": "SHARED",
}


def print_verbose(ctx: Context, found: dict[str, Any], format: str, cached: int) -> None:
    """Print what ``GET /system/df`` answered.

    :param format: empty for tables, ``json``, or a template of the whole.
    :param cached: the bytes that only builds hold.
    :raises TemplateError: where the template does not fit.
    """
    # What is meant for programs has identifiers whole, as with docker.
    whole = format not in ("", "table")
    kinds = _rows(found, whole=whole)
    if whole:
        from pannier.cli.template import Template

        ctx.out(Template("{{json .}}" if format == "json" else format).render(kinds))
        return
    _section(ctx, "Images space usage:", _IMAGES, kinds["Images"])
    _section(ctx, "Containers space usage:", _CONTAINERS, kinds["Containers"])
    _section(ctx, "Local Volumes space usage:", _VOLUMES, kinds["Volumes"])
    _section(ctx, f"Build cache usage: {human_size(cached)}", _CACHE, kinds["BuildCache"])


def _rows(found: dict[str, Any], *, whole: bool) -> dict[str, list[dict[str, Any]]]:
    now = time.time()
    # Each image once, as its size counts once, by the first of its names.
    images = [
        next(iter(image_rows(one, whole=whole, digests=False, now=now)))
        for one in found.get("Images") or ()
    ]
    for row, one in zip(images, found.get("Images") or (), strict=True):
        shared = max(one.get("SharedSize", 0), 0)
        row["SharedSize"] = human_size(shared)
        row["UniqueSize"] = human_size(one.get("Size", 0) - shared)
        row["Containers"] = str(max(one.get("Containers", 0), 0))
        row["Digest"] = ""
    containers = [
        dict(container_row(one, whole=whole, now=now)) for one in found.get("Containers") or ()
    ]
    for container in containers:
        container["Size"] = container["Size"].partition(" (virtual")[0]
    rows: dict[str, list[dict[str, Any]]] = {
        "Images": images,
        "Containers": containers,
        "Volumes": [volume_row(one) for one in found.get("Volumes") or ()],
        "BuildCache": [_cache_row(one, now) for one in found.get("BuildCache") or ()],
    }
    # Without the functions that templates may call: these rows are printed whole.
    return {
        kind: [{name: row[name] for name in sorted(row) if not callable(row[name])} for row in kept]
        for kind, kept in rows.items()
    }


def _cache_row(one: dict[str, Any], now: float) -> dict[str, Any]:
    used = one.get("LastUsedAt")
    return {
        "ID": one["ID"],
        "Parent": one.get("Parent", ""),
        "CacheType": one.get("Type", ""),
        "Description": one.get("Description", ""),
        "Size": human_size(one.get("Size", 0), 3),
        "CreatedAt": one.get("CreatedAt", ""),
        "CreatedSince": ago(parse_time(one["CreatedAt"]), now) if one.get("CreatedAt") else "",
        "LastUsedAt": used or "",
        "LastUsedSince": ago(parse_time(used), now) if used else "",
        "UsageCount": str(one.get("UsageCount", 0)),
        "InUse": str(bool(one.get("InUse"))).lower(),
        "Shared": str(bool(one.get("Shared"))).lower(),
    }


def _section(
    ctx: Context, title: str, columns: dict[str, str], rows: Iterable[dict[str, Any]]
) -> None:
    ctx.out(f"{title}\n")
    cells = [[str(row[name]) for name in columns] for row in rows]
    for line in table(tuple(columns.values()), cells):
        ctx.out(line)
    if columns is not _CACHE:
        ctx.out("")
