"""``pannier update``."""

from __future__ import annotations

from pannier.cli.command import Command, UsageError, arg
from pannier.cli.creating import container_path
from pannier.cli.hostconfig import limits, restart_policy
from pannier.cli.runflags import CREATE_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["UPDATE"]

_NAMES = frozenset(
    (
        "blkio-weight",
        "cpu-period",
        "cpu-quota",
        "cpu-rt-period",
        "cpu-rt-runtime",
        "cpu-shares",
        "cpus",
        "cpuset-cpus",
        "cpuset-mems",
        "memory",
        "memory-reservation",
        "memory-swap",
        "pids-limit",
        "restart",
    )
)


def _update(ctx: Context, values: Values) -> int:
    if not any(values.given(name) for name in _NAMES):
        raise UsageError(
            "you must provide one or more flags when using this command",
            code=1,
            hint="for example: pannier update -m 256m web",
        )
    body: dict[str, Any] = {}
    limits(values, body)
    body["RestartPolicy"] = restart_policy(values.text("restart"))
    body = {key: value for key, value in body.items() if value not in (None, "", [], {})}

    def update(name: str) -> None:
        answer = ctx.client.post(f"{container_path(name)}/update", None, body)
        ctx.warn((answer or {}).get("Warnings"))

    return ctx.each(values.args, update)


UPDATE = Command(
    "update",
    "Update configuration of one or more containers",
    _update,
    flags=[one for one in CREATE_FLAGS if one.long in _NAMES],
    args=[arg("CONTAINER", most=None, complete="container")],
    example="pannier update --memory 256m --cpus 0.5 web",
)
