"""``pannier pull``, ``push`` and ``search``."""

from __future__ import annotations

from pannier.cli.command import Command, UsageError, arg, flag, many, text
from pannier.cli.commands.inspect import image_path
from pannier.cli.credentials import auth_header, full_name
from pannier.cli.listing import print_rows
from pannier.cli.progress import pull_image, show_progress
from pannier.cli.readers import filters
from pannier.cli.references import split_reference
from pannier.cli.tables import ellipsis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["PULL", "PUSH", "SEARCH"]


def _pull(ctx: Context, values: Values) -> int:
    image, quiet = values.args[0], values.on("quiet")
    platform = values.text("platform")
    if values.on("all-tags"):
        repository, tag = split_reference(image)
        if tag or "@" in image:
            raise UsageError("tag can't be used with --all-tags/-a", code=1)
        pull_image(ctx, repository, platform, quiet=quiet, every=True)
        ctx.out(full_name(repository))
        return 0
    if not split_reference(image)[1] and "@" not in image:
        image = f"{image}:latest"
        if not quiet:
            ctx.out("Using default tag: latest")
    pull_image(ctx, image, platform, quiet=quiet)
    ctx.out(full_name(image))
    return 0


def _push(ctx: Context, values: Values) -> int:
    image, quiet = values.args[0], values.on("quiet")
    repository, tag = split_reference(image)
    every = values.on("all-tags")
    if every and tag:
        raise UsageError("tag can't be used with --all-tags/-a", code=1)
    if not tag and not every:
        tag = "latest"
        if not quiet:
            ctx.out("Using default tag: latest")
    query = {"tag": tag or None, "platform": values.text("platform") or None}
    path = f"{image_path(repository)}/push"
    answer = ctx.client.request("POST", path, query=query, headers=auth_header(image))
    show_progress(answer.objects(), silent=quiet)
    if quiet:
        ctx.out(full_name(f"{repository}:{tag}" if tag else repository))
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
    headers = auth_header(values.args[0])
    found = ctx.client.request("GET", "/images/search", query=query, headers=headers).json()
    for one in found or ():
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
        flag("--disable-content-trust", "Accepted and ignored", default="true"),
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
        flag("--disable-content-trust", "Accepted and ignored", default="true"),
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
