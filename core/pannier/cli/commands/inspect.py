"""``pannier inspect`` and the ``inspect`` of each group."""

from __future__ import annotations

import json

from pannier.cli.command import Argument, Command, Flag, UsageError, arg, flag, text
from pannier.cli.creating import container_path
from pannier.client import APIError
from pannier.client.api import quote
from pannier.errors import NotFound, PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = [
    "CONTAINER_INSPECT",
    "IMAGE_INSPECT",
    "INSPECT",
    "NETWORK_INSPECT",
    "VOLUME_INSPECT",
    "image_path",
]


def image_path(name: str) -> str:
    """Return an image's path in the API; a reference keeps its slashes and colons."""
    return f"/images/{quote(name, safe=b'/:@')}"


def _paths(*, size: bool) -> dict[str, Callable[[str], str]]:
    return {
        "container": lambda name: f"{container_path(name)}/json" + ("?size=1" if size else ""),
        "image": lambda name: f"{image_path(name)}/json",
        "network": lambda name: f"/networks/{quote(name)}",
        "volume": lambda name: f"/volumes/{quote(name)}",
    }


_KINDS = ("container", "image", "network", "volume")


def _inspect_kinds(ctx: Context, values: Values, kinds: Sequence[str], what: str) -> int:
    size = "container" in kinds and values.on("size")
    paths = _paths(size=size)
    status, found = 0, []
    for name in values.args:
        try:
            found.append(_lookup(ctx, [paths[kind] for kind in kinds], name, what))
        except PannierError as error:
            ctx.report(error)
            status = 1
    format = values.text("format")
    if not format:
        ctx.out(json.dumps(found, indent=4, ensure_ascii=False))
    elif format == "json":
        ctx.out(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    else:
        from pannier.cli.template import Template

        template = Template(format)
        for one in found:
            ctx.out(template.render(one))
    return status


def _lookup(ctx: Context, paths: Sequence[Callable[[str], str]], name: str, what: str) -> Any:
    if not name:
        raise NotFound(f"No such {what}: ''")
    for path in paths:
        try:
            return ctx.client.get(path(name))
        except APIError as error:
            if error.code != 404 and (len(paths) == 1 or error.code >= 500):
                raise
            if len(paths) == 1 and str(error):
                raise
    raise NotFound(f"No such {what}: {name}")


def _inspect(ctx: Context, values: Values) -> int:
    kind = values.text("type")
    if kind and kind not in _KINDS:
        raise UsageError(f'unknown type: "{kind}"', code=1, hint=f"one of {', '.join(_KINDS)}")
    return _inspect_kinds(ctx, values, [kind] if kind else _KINDS, kind or "object")


def _of(kind: str) -> Callable[[Context, Values], int]:
    return lambda ctx, values: _inspect_kinds(ctx, values, [kind], kind)


_FORMAT: list[Flag] = [
    text("-f,--format", "Format output using a Go template, or json"),
]
_SIZE: list[Flag] = [flag("-s,--size", "Display total file sizes if the type is container")]


def _args(metavar: str, complete: str) -> list[Argument]:
    return [arg(metavar, most=None, complete=complete)]


INSPECT = Command(
    "inspect",
    "Return low-level information on objects",
    _inspect,
    flags=[*_FORMAT, *_SIZE, text("--type", "Only inspect objects of the given type")],
    args=_args("NAME|ID", "any"),
    example="pannier inspect -f '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web",
)
CONTAINER_INSPECT = Command(
    "container inspect",
    "Display detailed information on one or more containers",
    _of("container"),
    flags=[*_FORMAT, *_SIZE],
    args=_args("CONTAINER", "container"),
    example="pannier container inspect -f '{{json .Mounts}}' web",
)
IMAGE_INSPECT = Command(
    "image inspect",
    "Display detailed information on one or more images",
    _of("image"),
    flags=_FORMAT,
    args=_args("IMAGE", "image"),
    example="pannier image inspect -f '{{join .RepoTags \", \"}}' busybox",
)
NETWORK_INSPECT = Command(
    "network inspect",
    "Display detailed information on one or more networks",
    _of("network"),
    flags=[*_FORMAT, flag("-v,--verbose", "Verbose output for diagnostics")],
    args=_args("NETWORK", "network"),
    example="pannier network inspect bridge",
)
VOLUME_INSPECT = Command(
    "volume inspect",
    "Display detailed information on one or more volumes",
    _of("volume"),
    flags=_FORMAT,
    args=_args("VOLUME", "volume"),
    example="pannier volume inspect -f '{{.Mountpoint}}' data",
)
