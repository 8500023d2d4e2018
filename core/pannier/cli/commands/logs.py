"""``pannier logs``."""

from __future__ import annotations

import time

from pannier.cli.command import Command, arg, flag, text
from pannier.cli.creating import container_path
from pannier.cli.session import write_all
from pannier.cli.units import parse_duration
from pannier.client.frames import demultiplex
from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["LOGS", "moment"]


def _logs(ctx: Context, values: Values) -> int:
    name = values.args[0]
    tail = values.text("tail")
    query: dict[str, Any] = {
        "stdout": True,
        "stderr": True,
        "follow": values.on("follow") or None,
        "timestamps": values.on("timestamps") or None,
        "details": values.on("details") or None,
        "tail": tail if tail and tail != "all" else None,
        "since": moment(values.text("since")),
        "until": moment(values.text("until")),
    }
    answer = ctx.client.request("GET", f"{container_path(name)}/logs", query=query)
    kind = answer.headers.get("content-type", "")
    if "multiplexed" in kind:
        raw = False
    elif "raw" in kind and ctx.client.version != "1.41":
        raw = True
    else:
        # Before API 1.42 the answer does not say.
        raw = bool(ctx.client.get(f"{container_path(name)}/json")["Config"].get("Tty"))
    if raw:
        for piece in answer.chunks():
            write_all(1, piece)
    else:
        demultiplex(answer.chunks(), lambda number, data: write_all(2 if number == 2 else 1, data))
    return 0


def moment(given: str) -> str | None:
    """Return a time for the API: seconds since the epoch, from ``10m`` or a date or a number.

    :raises InvalidRequest: where it is none of them.
    """
    if not given:
        return None
    if given.replace(".", "", 1).isdecimal():
        return given  # seconds since the epoch, as with docker, and no duration, which has a unit
    try:
        return f"{time.time() - parse_duration(given) / 1e9:.9f}"
    except InvalidRequest:
        return f"{_date(given):.9f}"


def _date(given: str) -> float:
    import datetime as dt

    try:
        found = dt.datetime.fromisoformat(given)
    except ValueError:
        raise InvalidRequest(
            f'failed to parse value as time or duration: "{given}"',
            hint="write for example 10m, 2026-01-02T15:04:05 or 1700000000",
        ) from None
    return found.timestamp()


LOGS = Command(
    "logs",
    "Fetch the logs of a container",
    _logs,
    flags=[
        flag("--details", "Show extra details provided to logs"),
        flag("-f,--follow", "Follow log output"),
        text("--since", "Show logs since timestamp (2013-01-02T13:23:37Z) or relative (42m)"),
        text("-n,--tail", "Number of lines to show from the end of the logs", default="all"),
        flag("-t,--timestamps", "Show timestamps"),
        text("--until", "Show logs before a timestamp or relative (42m)"),
    ],
    args=[arg("CONTAINER", complete="container")],
    example="pannier logs -f --tail 100 web",
)
