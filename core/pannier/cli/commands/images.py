"""``pannier images``, ``history``, ``rmi`` and ``tag``."""

from __future__ import annotations

import time

from pannier.cli.command import Command, UsageError, arg, flag, many, text
from pannier.cli.commands.inspect import image_path
from pannier.cli.listing import print_rows
from pannier.cli.readers import filters
from pannier.cli.references import split_reference
from pannier.cli.tables import ellipsis
from pannier.cli.units import ago, human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["HISTORY", "IMAGES", "RMI", "TAG", "image_rows"]

_NONE = "<none>"
_HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_WITH_DIGEST = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")


def _images(ctx: Context, values: Values) -> int:
    wanted = values.many("filter")
    if values.args:
        wanted = [*wanted, f"reference={values.args[0]}"]
    query = {
        "all": values.on("all") or None,
        "digests": values.on("digests") or None,
        "filters": filters(wanted),
    }
    found = ctx.client.get("/images/json", query)
    whole = values.on("no-trunc")
    digests = values.on("digests") or ".Digest" in values.text("format")
    now = time.time()
    rows = [
        row
        for one in sorted(found, key=lambda image: -image.get("Created", 0))
        for row in image_rows(one, whole=whole, digests=digests, now=now)
    ]
    format = values.text("format")
    if values.on("quiet") and not format:
        for row in rows:
            ctx.out(row["ID"])
        return 0
    columns = _WITH_DIGEST if values.on("digests") else _COLUMNS
    print_rows(ctx, rows, format=format, headers=_HEADERS, columns=columns)
    return 0


def image_rows(
    one: dict[str, Any], *, whole: bool, digests: bool, now: float
) -> Iterator[dict[str, Any]]:
    """Yield the rows of an image that the API lists: one for each of its names, at least one."""
    created = one.get("Created", 0)
    moment = time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created))
    shared = one.get("SharedSize", -1)
    count = one.get("Containers", -1)
    common = {
        "ID": one["Id"] if whole else short_id(one["Id"]),
        "CreatedSince": ago(created, now),
        "CreatedAt": moment if created > 0 else "N/A",
        "Size": human_size(one.get("Size", 0), 3),
        "VirtualSize": human_size(one.get("Size", 0)),
        "Containers": "N/A" if count < 0 else str(count),
        "SharedSize": "N/A" if shared < 0 else human_size(shared, 3),
        "UniqueSize": "N/A" if shared < 0 else human_size(one.get("Size", 0) - shared, 3),
    }
    tags = [one for one in one.get("RepoTags") or [] if one != "<none>:<none>"]
    by_repository = {
        name: digest
        for name, _, digest in (entry.partition("@") for entry in one.get("RepoDigests") or [])
        if name != _NONE
    }
    for reference in tags:
        repository, tag = split_reference(reference)
        digest = by_repository.get(repository, _NONE)
        yield {**common, "Repository": repository, "Tag": tag or _NONE, "Digest": digest}
    if not tags:
        pairs = list(by_repository.items()) or [(_NONE, _NONE)]
        for name, digest in pairs if digests else pairs[:1]:
            yield {**common, "Repository": name, "Tag": _NONE, "Digest": digest}


_HISTORY_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_HISTORY_COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")


def _rfc3339(seconds: float) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
    if stamp.endswith("+0000"):
        return stamp.removesuffix("+0000") + "Z"
    return f"{stamp[:-2]}:{stamp[-2:]}"


def _history(ctx: Context, values: Values) -> int:
    found = ctx.client.get(f"{image_path(values.args[0])}/history")
    whole, human = values.on("no-trunc"), values.on("human")
    format = values.text("format")
    now = time.time()
    rows = []
    for one in found:
        created, by = one.get("Created", 0), (one.get("CreatedBy") or "").replace("\t", " ")
        stamp = _rfc3339(created)
        identifier = one.get("Id") or "<missing>"
        rows.append(
            {
                "ID": identifier if whole else short_id(identifier),
                "CreatedSince": ago(created, now) if human else stamp,
                "CreatedAt": stamp,
                "CreatedBy": by if whole else ellipsis(by, 45),
                "Size": human_size(one.get("Size", 0), 3) if human else str(one.get("Size", 0)),
                "Comment": one.get("Comment", ""),
            }
        )
    if values.on("quiet") and not format:
        for row in rows:
            ctx.out(row["ID"])
        return 0
    headers = _HISTORY_HEADERS if human else _HISTORY_HEADERS | {"CreatedSince": "CREATED AT"}
    print_rows(ctx, rows, format=format, headers=headers, columns=_HISTORY_COLUMNS)
    return 0


def _rmi(ctx: Context, values: Values) -> int:
    query = {
        "force": values.on("force") or None,
        "noprune": values.on("no-prune") or None,
        "platforms": values.many("platform") or None,
    }

    def remove(name: str) -> None:
        if not name:
            raise UsageError("invalid reference format", code=1)
        for one in ctx.client.delete(image_path(name), query) or ():
            if one.get("Untagged"):
                ctx.out(f"Untagged: {one['Untagged']}")
            if one.get("Deleted"):
                ctx.out(f"Deleted: {one['Deleted']}")

    return ctx.each(values.args, remove, echo=False, forced=values.on("force"))


def _tag(ctx: Context, values: Values) -> int:
    source, target = values.args
    repository, tag = split_reference(target)
    query = {"repo": repository, "tag": tag or None}
    ctx.client.post(f"{image_path(source)}/tag", query)
    return 0


IMAGES = Command(
    "images",
    "List images",
    _images,
    flags=[
        flag("-a,--all", "Show all images (default hides intermediate images)"),
        flag("--digests", "Show digests"),
        many("-f,--filter", "Filter output based on conditions provided", metavar="filter"),
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        flag("--no-trunc", "Don't truncate output"),
        flag("-q,--quiet", "Only show image IDs"),
    ],
    args=[arg("REPOSITORY[:TAG]", least=0, complete="image")],
    example="pannier images --filter dangling=true -q",
)
HISTORY = Command(
    "history",
    "Show the history of an image",
    _history,
    flags=[
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        flag("-H,--human", "Print sizes and dates in human readable format", default="true"),
        flag("--no-trunc", "Don't truncate output"),
        flag("-q,--quiet", "Only show image IDs"),
    ],
    args=[arg("IMAGE", complete="image")],
    example="pannier history --no-trunc busybox",
)
RMI = Command(
    "rmi",
    "Remove one or more images",
    _rmi,
    flags=[
        flag("-f,--force", "Force removal of the image"),
        flag("--no-prune", "Do not delete untagged parents"),
        many("--platform", "Remove only the given platform variant"),
    ],
    args=[arg("IMAGE", most=None, complete="image")],
    example="pannier rmi busybox:old",
)
TAG = Command(
    "tag",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    _tag,
    args=[arg("SOURCE_IMAGE[:TAG]", complete="image"), arg("TARGET_IMAGE[:TAG]")],
    example="pannier tag busybox example/busybox:1",
)
