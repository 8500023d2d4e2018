"""``pannier stats``."""

from __future__ import annotations

import os
import sys
import time

from pannier.cli.command import Command, arg, flag, text
from pannier.cli.creating import container_path
from pannier.cli.listing import row_lines
from pannier.cli.units import human_binary, human_size, short_id
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context
    from pannier.client import Client

__all__ = ["STATS", "stats_row"]

_HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_INTERVAL = 1.0
_CLEAR, _HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


def _stats(ctx: Context, values: Values) -> int:
    whole, format = values.on("no-trunc"), values.text("format")
    once = values.on("no-stream")
    names = values.args or _listed(ctx.client, every=values.on("all"))
    if values.args:
        for name in names:
            # A name that is wrong from the start is an error; one that goes later is a gap.
            ctx.client.get(f"{container_path(name)}/json")
    previous: dict[str, dict[str, Any]] = {}
    drawn = not once and os.isatty(1)
    if drawn:
        sys.stdout.write(_CLEAR)
    while True:
        samples = _sample(ctx.client, names, one_shot=not once)
        rows = []
        for name in names:
            found = samples.get(name)
            rows.append(stats_row(name, found, previous.get(name), whole=whole))
        lines = row_lines(rows, format=format, headers=_HEADERS, columns=_COLUMNS)
        sys.stdout.write(_redrawn(lines) if drawn else "".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
        if once:
            return 0
        previous = samples
        time.sleep(_INTERVAL)
        if not values.args:
            names = _listed(ctx.client, every=values.on("all"))


def _redrawn(lines: list[str]) -> str:
    """Return what replaces a screen by these lines in one go.

    What stood there is written over and not cleared first, which would flicker.
    """
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST_OF_SCREEN


def _listed(client: Client, *, every: bool) -> list[str]:
    found = client.get("/containers/json", {"all": every or None})
    return [str(one["Id"]) for one in found]


def _sample(client: Client, names: list[str], *, one_shot: bool) -> dict[str, dict[str, Any]]:
    """Ask for all the containers' figures at once, so that they are of one moment."""
    query = {"stream": False, "one-shot": True if one_shot else None}
    asked = [
        (one, client.defer("GET", f"{container_path(one)}/stats", query=query)) for one in names
    ]
    found = {}
    for name, deferred in asked:
        try:
            found[name] = deferred.json()
        except PannierError:
            continue
        finally:
            deferred.close()
    return found


def stats_row(
    name: str,
    now: dict[str, Any] | None,
    before: dict[str, Any] | None,
    *,
    whole: bool,
) -> dict[str, str]:
    """Return a row; dashes for a container that answers nothing.

    :param before: the sample before this one; without it, the daemon's own ``precpu_stats``.
    """
    if not now or not now.get("memory_stats"):
        identifier = str((now or {}).get("id") or name)
        row = dict.fromkeys(_HEADERS, "--")
        row.update(Container=name, ID=identifier if whole else short_id(identifier))
        row.update(Name=str((now or {}).get("name", "--")).removeprefix("/"))
        row.update(MemUsage="-- / --", MemPerc="--", PIDs="--")
        return row
    earlier = before["cpu_stats"] if before else now.get("precpu_stats") or {}
    used, limit = _memory(now["memory_stats"])
    received, sent = _network(now.get("networks") or {})
    read, written = _block(now.get("blkio_stats") or {})
    return {
        "Container": name,
        "ID": now["id"] if whole else short_id(now["id"]),
        "Name": now["name"].removeprefix("/"),
        "CPUPerc": f"{_cpu(now['cpu_stats'], earlier):.2f}%",
        "MemUsage": f"{human_binary(used)} / {human_binary(limit)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{human_size(received, 3)} / {human_size(sent, 3)}",
        "BlockIO": f"{human_size(read, 3)} / {human_size(written, 3)}",
        "PIDs": str((now.get("pids_stats") or {}).get("current", 0)),
    }


def _cpu(now: dict[str, Any], before: dict[str, Any]) -> float:
    """Return percent of one processor."""
    usage, earlier = now.get("cpu_usage") or {}, before.get("cpu_usage") or {}
    used = usage.get("total_usage", 0) - earlier.get("total_usage", 0)
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len(usage.get("percpu_usage") or []) or 1
    if used <= 0 or passed <= 0 or not before.get("system_cpu_usage"):
        return 0.0
    return float(used / passed * cpus * 100)


def _memory(stats: dict[str, Any]) -> tuple[int, int]:
    """Return what is used without the page cache that the kernel could drop, and the limit."""
    details, usage = stats.get("stats") or {}, stats.get("usage", 0)
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    return usage - inactive if inactive < usage else usage, stats.get("limit", 0)


def _network(networks: dict[str, Any]) -> tuple[int, int]:
    links = networks.values()
    return sum(one.get("rx_bytes", 0) for one in links), sum(
        one.get("tx_bytes", 0) for one in links
    )


def _block(stats: dict[str, Any]) -> tuple[int, int]:
    read = written = 0
    for entry in stats.get("io_service_bytes_recursive") or ():
        kind = str(entry.get("op", ""))[:1].lower()
        read += entry["value"] if kind == "r" else 0
        written += entry["value"] if kind == "w" else 0
    return read, written


STATS = Command(
    "stats",
    "Display a live stream of container(s) resource usage statistics",
    _stats,
    flags=[
        flag("-a,--all", "Show all containers (default shows just running)"),
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        flag("--no-stream", "Disable streaming stats and only pull the first result"),
        flag("--no-trunc", "Do not truncate output"),
    ],
    args=[arg("CONTAINER", least=0, most=None, complete="running")],
    example="pannier stats --no-stream web",
)
