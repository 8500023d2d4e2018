"""``pannier ps``."""

from __future__ import annotations

import json
import time

from pannier.cli.command import Command, flag, many, text
from pannier.cli.listing import map_label, print_rows
from pannier.cli.readers import filters
from pannier.cli.tables import ellipsis
from pannier.cli.units import ago, human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["PS", "container_row", "ports_text"]

_HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def _ps(ctx: Context, values: Values) -> int:
    format = values.text("format")
    last = 1 if values.on("latest") else values.number("last")
    size = values.on("size") or (bool(format) and ".Size" in format)
    found = ctx.client.get(
        "/containers/json",
        {
            "all": values.on("all") or None,
            "limit": last if last > 0 else None,
            "size": size or None,
            "filters": filters(values.many("filter")),
        },
    )
    whole = values.on("no-trunc")
    if values.on("quiet") and not format:
        for one in found:
            ctx.out(one["Id"] if whole else short_id(one["Id"]))
        return 0
    now = time.time()
    columns = [*_COLUMNS, "Size"] if values.on("size") else _COLUMNS
    rows = [container_row(one, whole=whole, now=now) for one in found]
    print_rows(ctx, rows, format=format, headers=_HEADERS, columns=columns)
    return 0


def container_row(one: dict[str, Any], *, whole: bool, now: float) -> dict[str, Any]:
    """Return a container as ``ps`` shows it."""
    labels = one.get("Labels") or {}
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in one.get("Mounts") or ()]
    command = one.get("Command") or ""
    networks = (one.get("NetworkSettings") or {}).get("Networks") or {}
    created = one.get("Created", 0)
    return {
        "ID": one["Id"] if whole else short_id(one["Id"]),
        "Image": _image(one, whole=whole),
        "Command": json.dumps(command if whole else ellipsis(command, 20), ensure_ascii=False),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created)),
        "RunningFor": ago(created, now),
        "Status": one.get("Status", ""),
        "State": one.get("State", ""),
        "Ports": ports_text(one.get("Ports") or []),
        "Size": _size(one),
        "Names": _names(one.get("Names") or [], whole=whole),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Label": map_label(labels),
        "Mounts": ",".join(name if whole else ellipsis(name, 15) for name in mounts),
        "LocalVolumes": str(
            sum(mount.get("Driver") == "local" for mount in one.get("Mounts") or ())
        ),
        "Networks": ",".join(networks),
        "Platform": None,
    }


def _image(one: dict[str, Any], *, whole: bool) -> str:
    image = str(one.get("Image") or "<no image>")
    if whole:
        return image
    if short_id(one.get("ImageID") or "") == short_id(image):
        return short_id(image)
    name, at, _ = image.partition("@")
    return name if at and ":" in name.rpartition("/")[2] else image


def _names(names: list[str], *, whole: bool) -> str:
    plain = [name.removeprefix("/") for name in names]
    # A name with a slash is another container's link to this one.
    return ",".join(name for name in plain if whole or "/" not in name)


def _size(one: dict[str, Any]) -> str:
    own, virtual = one.get("SizeRw") or 0, one.get("SizeRootFs") or 0
    text = human_size(own, 3)
    return f"{text} (virtual {human_size(virtual, 3)})" if virtual else text


def ports_text(ports: list[dict[str, Any]]) -> str:
    """Return the ports as ``0.0.0.0:80->80/tcp, 90-92/udp``, runs of neighbours drawn together.

    A port published as another number stands alone, after the runs.
    """
    done: list[str] = []
    mapped: list[str] = []
    runs: dict[tuple[str, str], list[int]] = {}
    for port in sorted(ports, key=lambda p: (p["PrivatePort"], p.get("IP", ""), p["Type"])):
        address, kind, private = port.get("IP", ""), port["Type"], port["PrivatePort"]
        public = port.get("PublicPort", 0)
        if address and public != private:
            mapped.append(f"{_bracket(address)}:{public}->{private}/{kind}")
            continue
        run = runs.setdefault((address, kind), [private, private])
        if private > run[1] + 1:
            done.append(_run_text(address, kind, *run))
            runs[address, kind] = [private, private]
        else:
            run[1] = private
    done += [_run_text(address, kind, *run) for (address, kind), run in runs.items()]
    return ", ".join(done + mapped)


def _bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _run_text(address: str, kind: str, first: int, last: int) -> str:
    run = f"{first}" if first == last else f"{first}-{last}"
    return f"{_bracket(address)}:{run}->{run}/{kind}" if address else f"{run}/{kind}"


PS = Command(
    "ps",
    "List containers",
    _ps,
    flags=[
        flag("-a,--all", "Show all containers (default shows just running)"),
        many("-f,--filter", "Filter output based on conditions provided", metavar="filter"),
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        text("-n,--last", "Show n last created containers (includes all states)", metavar="int"),
        flag("-l,--latest", "Show the latest created container (includes all states)"),
        flag("--no-trunc", "Don't truncate output"),
        flag("-q,--quiet", "Only display container IDs"),
        flag("-s,--size", "Display total file sizes"),
    ],
    example="pannier ps -a --filter status=exited --format 'table {{.ID}}\\t{{.Names}}'",
)
