"""``pannier start``."""

from __future__ import annotations

from pannier.cli.command import Command, UsageError, arg, flag, text
from pannier.cli.commands.run import Foreground
from pannier.cli.creating import container_path
from pannier.cli.terminal import parse_keys, require_tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["START"]


def _start(ctx: Context, values: Values) -> int:
    keys = values.text("detach-keys")
    if keys:
        parse_keys(keys)
    if not values.on("attach") and not values.on("interactive"):
        return ctx.each(
            values.args,
            lambda name: ctx.client.post(
                f"{container_path(name)}/start", {"detachKeys": keys or None}
            ),
        )
    if len(values.args) > 1:
        raise UsageError("you cannot start and attach multiple containers at once", code=1)
    found = ctx.client.get(f"{container_path(values.args[0])}/json")
    config = found["Config"]
    stdin = values.on("interactive") and bool(config.get("OpenStdin"))
    tty = bool(config.get("Tty"))
    require_tty(interactive=stdin, tty=tty)
    return Foreground(
        ctx.client,
        str(found["Id"]),
        tty=tty,
        stdin=stdin,
        stdout=True,
        stderr=True,
        removed=bool(found["HostConfig"].get("AutoRemove")),
        keys=keys,
        proxy=values.on("sig-proxy"),
    ).run(ctx)


START = Command(
    "start",
    "Start one or more stopped containers",
    _start,
    flags=[
        flag("-a,--attach", "Attach STDOUT/STDERR and forward signals"),
        text("--detach-keys", "Override the key sequence for detaching a container"),
        flag("-i,--interactive", "Attach container's STDIN"),
        flag("--sig-proxy", "Proxy received signals to the process", default="true"),
    ],
    args=[arg("CONTAINER", most=None, complete="container")],
    example="pannier start -ai web",
)
