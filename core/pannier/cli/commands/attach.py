"""``pannier attach``."""

from __future__ import annotations

from pannier.cli.command import Command, arg, flag, text
from pannier.cli.commands.run import wait_status
from pannier.cli.creating import container_path
from pannier.cli.session import Session, run_session
from pannier.cli.terminal import DEFAULT_DETACH_KEYS, parse_keys, require_tty
from pannier.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["ATTACH"]


def _attach(ctx: Context, values: Values) -> int:
    found = ctx.client.get(f"{container_path(values.args[0])}/json")
    state, config = found["State"], found["Config"]
    if not state.get("Running"):
        raise Conflict("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Conflict("You cannot attach to a paused container, unpause it first")
    stdin = not values.on("no-stdin") and bool(config.get("OpenStdin"))
    tty = bool(config.get("Tty"))
    require_tty(interactive=stdin, tty=tty)
    keys = values.text("detach-keys")
    path = container_path(str(found["Id"]))
    query: dict[str, Any] = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True}
    query["detachKeys"] = keys or None
    watched = parse_keys(keys or DEFAULT_DETACH_KEYS) if tty else b""
    waiter = ctx.client.defer("POST", f"{path}/wait")
    try:
        stream = ctx.client.hijack(f"{path}/attach", query=query)
        session = Session(stream, raw=tty, stdin=stdin, keys=watched)

        def kill(name: str) -> None:
            ctx.client.post(f"{path}/kill", {"signal": name})

        proxy = kill if values.on("sig-proxy") else None
        run_session(ctx.client, path, session, tty=tty, stdin=stdin, kill=proxy)
        if session.detached:
            ctx.err("read escape sequence")
            return 0
        return wait_status(ctx, waiter)
    finally:
        waiter.close()


ATTACH = Command(
    "attach",
    "Attach local standard input, output, and error streams to a running container",
    _attach,
    flags=[
        text("--detach-keys", "Override the key sequence for detaching a container"),
        flag("--no-stdin", "Do not attach STDIN"),
        flag("--sig-proxy", "Proxy all received signals to the process", default="true"),
    ],
    args=[arg("CONTAINER", complete="running")],
    example="pannier attach --detach-keys ctrl-a,d web",
)
