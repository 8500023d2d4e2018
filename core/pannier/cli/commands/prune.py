"""``prune``: of containers, images, networks, volumes, and of all of them."""

from __future__ import annotations

import os
import sys

from pannier.cli.command import Command, Flag, UsageError, flag, many
from pannier.cli.readers import filters
from pannier.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = [
    "CONTAINER_PRUNE",
    "IMAGE_PRUNE",
    "NETWORK_PRUNE",
    "SYSTEM_PRUNE",
    "VOLUME_PRUNE",
    "confirm",
    "prune_cache",
]

_FORCE = flag("-f,--force", "Do not prompt for confirmation")
_FILTER = many("--filter", "Provide filter values (e.g. until=24h)", metavar="filter")


def confirm(values: Values, warning: str, gap: str = "\n") -> bool:
    """Ask whether to go on; ``--force`` answers yes, and nobody there to answer says no."""
    if values.on("force"):
        return True
    sys.stdout.write(f"{warning}{gap}Are you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline() if not _closed() else ""
    return answer.strip().lower() in ("y", "yes")


def _closed() -> bool:
    try:
        os.fstat(0)
    except OSError:
        return True
    return False


def _asked(values: Values, extra: dict[str, str]) -> dict[str, dict[str, bool]] | None:
    given = [*values.many("filter"), *(f"{key}={value}" for key, value in extra.items())]
    return filters(given)


def _containers(ctx: Context, values: Values) -> int:
    found = ctx.client.post("/containers/prune", {"filters": _asked(values, {})})
    return _report(ctx, "Deleted Containers:", found.get("ContainersDeleted"), found)


def _networks(ctx: Context, values: Values) -> int:
    found = ctx.client.post("/networks/prune", {"filters": _asked(values, {})})
    return _report(ctx, "Deleted Networks:", found.get("NetworksDeleted"), found)


def _volumes(ctx: Context, values: Values, *, whole: bool) -> int:
    extra = {"all": "true"} if whole else {}
    found = ctx.client.post("/volumes/prune", {"filters": _asked(values, extra)})
    return _report(ctx, "Deleted Volumes:", found.get("VolumesDeleted"), found)


def _images(ctx: Context, values: Values, *, whole: bool) -> int:
    extra = {"dangling": "false" if whole else "true"}
    found = ctx.client.post("/images/prune", {"filters": _asked(values, extra)})
    lines = []
    for one in found.get("ImagesDeleted") or ():
        lines += [
            f"{verb.lower()}: {one[verb]}" for verb in ("Untagged", "Deleted") if one.get(verb)
        ]
    return _report(ctx, "Deleted Images:", lines, found)


def prune_cache(ctx: Context, query: dict[str, Any]) -> int:
    """Remove what builds have cached; return how many bytes that were."""
    found = ctx.client.post("/build/prune", query)
    return _report(ctx, "Deleted build cache objects:", found.get("CachesDeleted"), found)


def _report(ctx: Context, title: str, names: list[str] | None, found: dict[str, Any]) -> int:
    if names:
        ctx.out(title)
        for name in names:
            ctx.out(name)
        ctx.out("")
    return int(found.get("SpaceReclaimed") or 0)


def _total(ctx: Context, size: int) -> None:
    ctx.out(f"Total reclaimed space: {human_size(size)}")


def _pruner(
    warning: Callable[[Values], str],
    prune: Callable[[Context, Values], int],
    *,
    total: bool = True,
) -> Callable[[Context, Values], int]:
    def run(ctx: Context, values: Values) -> int:
        if not confirm(values, warning(values)):
            return 0
        size = prune(ctx, values)
        if total:
            _total(ctx, size)
        return 0

    return run


def _image_warning(values: Values) -> str:
    if values.on("all"):
        what = "all images without at least one container associated to them"
        return f"WARNING! This will remove {what}."
    return "WARNING! This will remove all dangling images."


def _volume_warning(values: Values) -> str:
    kind = "local" if values.on("all") else "anonymous local"
    return f"WARNING! This will remove {kind} volumes not used by at least one container."


def _system_warning(values: Values) -> str:
    lines = [
        "all stopped containers",
        "all networks not used by at least one container",
        "all images without at least one container associated to them"
        if values.on("all")
        else "all dangling images",
        "all build cache" if values.on("all") else "unused build cache",
    ]
    if values.on("volumes"):
        lines.insert(2, "all anonymous volumes not used by at least one container")
    given = sorted(values.many("filter"))
    if given:
        lines[-1] += "\n\n  Items to be pruned will be filtered with:"
    return "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in [*lines, *given])


def _system_prune(ctx: Context, values: Values) -> int:
    # Before anything is removed.
    until = any(one.startswith("until=") for one in values.many("filter"))
    if until and values.on("volumes"):
        raise UsageError('The "until" filter is not supported with "--volumes"', code=1)
    return _pruner(_system_warning, _system)(ctx, values)


def _system(ctx: Context, values: Values) -> int:
    size = _containers(ctx, values) + _networks(ctx, values)
    if values.on("volumes"):
        size += _volumes(ctx, values, whole=False)
    size += _images(ctx, values, whole=values.on("all"))
    query = {"all": values.on("all") or None, "filters": _asked(values, {})}
    return size + prune_cache(ctx, query)


def _all(words: str) -> Flag:
    return flag("-a,--all", words)


CONTAINER_PRUNE = Command(
    "container prune",
    "Remove all stopped containers",
    _pruner(lambda _: "WARNING! This will remove all stopped containers.", _containers),
    flags=[_FILTER, _FORCE],
    example="pannier container prune -f --filter until=24h",
)
IMAGE_PRUNE = Command(
    "image prune",
    "Remove unused images",
    _pruner(_image_warning, lambda ctx, values: _images(ctx, values, whole=values.on("all"))),
    flags=[_all("Remove all unused images, not just dangling ones"), _FILTER, _FORCE],
    example="pannier image prune -af",
)
NETWORK_PRUNE = Command(
    "network prune",
    "Remove all unused networks",
    _pruner(
        lambda _: (
            "WARNING! This will remove all custom networks not used by at least one container."
        ),
        _networks,
        total=False,
    ),
    flags=[_FILTER, _FORCE],
    example="pannier network prune -f",
)
VOLUME_PRUNE = Command(
    "volume prune",
    "Remove unused local volumes",
    _pruner(_volume_warning, lambda ctx, values: _volumes(ctx, values, whole=values.on("all"))),
    flags=[_all("Remove all unused volumes, not just anonymous ones"), _FILTER, _FORCE],
    example="pannier volume prune -f",
)
SYSTEM_PRUNE = Command(
    "system prune",
    "Remove unused data",
    _system_prune,
    flags=[
        _all("Remove all unused images not just dangling ones"),
        _FILTER,
        _FORCE,
        flag("--volumes", "Prune anonymous volumes"),
    ],
    example="pannier system prune -af --volumes",
)
