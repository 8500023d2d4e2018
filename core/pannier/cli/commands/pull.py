"""``pannier pull``, ``push`` and ``search``."""

from __future__ import annotations

import base64
import json

from pannier.cli.command import Command, arg, flag, many, text
from pannier.cli.commands.images import split_reference
from pannier.cli.commands.inspect import image_path
from pannier.cli.listing import print_rows
from pannier.cli.progress import pull_image, show_progress
from pannier.cli.readers import filters
from pannier.cli.tables import ellipsis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["PULL", "PUSH", "SEARCH"]

#: Push asks for credentials in a header; this is the empty set of them.
_NO_CREDENTIALS = base64.urlsafe_b64encode(json.dumps({}).encode()).decode()


def _pull(ctx: Context, values: Values) -> int:
    image, quiet = values.args[0], values.on("quiet")
    platform = values.text("platform")
    repository, tag = (image, "") if "@" in image else split_reference(image)
    if values.on("all-tags"):
        query = {"fromImage": repository, "platform": platform or None}
        show_progress(ctx.client.request("POST", "/images/create", query=query).objects())
        return 0
    if not tag and "@" not in image:
        image = f"{image}:latest"
        if not quiet:
            ctx.out("Using default tag: latest")
    pull_image(ctx, image, platform, quiet=quiet)
    ctx.out(image)
    return 0


def _push(ctx: Context, values: Values) -> int:
    repository, tag = split_reference(values.args[0])
    query = {
        "tag": None if values.on("all-tags") else tag or "latest",
        "platform": values.text("platform") or None,
    }
    headers = {"X-Registry-Auth": _NO_CREDENTIALS}
    path = f"{image_path(repository)}/push"
    answer = ctx.client.request("POST", path, query=query, headers=headers)
    show_progress(answer.objects(), quiet=values.on("quiet"))
    return 0


_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
}


def _search(ctx: Context, values: Values) -> int:
    query = {
        "term": values.args[0],
        "limit": values.number("limit") or None,
        "filters": filters(values.many("filter")),
    }
    whole = values.on("no-trunc")
    rows = []
    for one in ctx.client.get("/images/search", query) or ():
        description = str(one.get("description", "")).replace("\n", " ")
        rows.append(
            {
                "Name": one["name"],
                "Description": description if whole else ellipsis(description, 45),
                "StarCount": str(one.get("star_count", 0)),
                "IsOfficial": "[OK]" if one.get("is_official") else "",
            }
        )
    format = values.text("format")
    print_rows(ctx, rows, format=format, headers=_HEADERS, columns=tuple(_HEADERS))
    return 0


PULL = Command(
    "pull",
    "Download an image from a registry",
    _pull,
    flags=[
        flag("-a,--all-tags", "Download all tagged images in the repository"),
        text("--platform", "Set platform if server is multi-platform capable"),
        flag("-q,--quiet", "Suppress verbose output"),
    ],
    args=[arg("NAME[:TAG|@DIGEST]")],
    example="pannier pull registry.example:5000/busybox:latest",
)
PUSH = Command(
    "push",
    "Upload an image to a registry",
    _push,
    flags=[
        flag("-a,--all-tags", "Push all tags of an image to the repository"),
        text("--platform", "Push a platform-specific manifest only"),
        flag("-q,--quiet", "Suppress verbose output"),
    ],
    args=[arg("NAME[:TAG]", complete="image")],
    example="pannier push registry.example:5000/busybox:latest",
)
SEARCH = Command(
    "search",
    "Search a registry for images",
    _search,
    flags=[
        many("-f,--filter", "Filter output based on conditions provided", metavar="filter"),
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        text("--limit", "Max number of search results", metavar="int"),
        flag("--no-trunc", "Don't truncate output"),
    ],
    args=[arg("TERM")],
    example="pannier search --limit 5 busybox",
)
