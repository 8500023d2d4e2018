"""``pannier exec``."""

from __future__ import annotations

from pannier.cli.command import Command, arg, flag, many, text
from pannier.cli.createbody import environment
from pannier.cli.creating import container_path
from pannier.cli.session import Session, run_session
from pannier.cli.status import start_status
from pannier.cli.terminal import DEFAULT_DETACH_KEYS, parse_keys, require_tty, size
from pannier.client import APIError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["EXEC"]


def _exec(ctx: Context, values: Values) -> int:
    detach, tty = values.on("detach"), values.on("tty")
    stdin = values.on("interactive") and not detach
    if not detach:
        require_tty(interactive=stdin, tty=tty)
    keys = values.text("detach-keys")
    watched = parse_keys(keys or DEFAULT_DETACH_KEYS) if tty or keys else b""
    body = _body(values, tty=tty, stdin=stdin, detach=detach)
    created = ctx.client.post(f"{container_path(values.args[0])}/exec", None, body)
    path = f"/exec/{created['Id']}"
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if "ConsoleSize" in body:
        start["ConsoleSize"] = body["ConsoleSize"]
    try:
        if detach:
            ctx.client.post(f"{path}/start", None, start)
            return 0
        stream = ctx.client.hijack(f"{path}/start", body=start)
    except APIError as error:
        ctx.report(error)
        status = start_status(error)
        return 1 if status == 125 else status
    session = Session(stream, raw=tty, stdin=stdin, keys=watched)
    run_session(ctx.client, path, session, tty=tty, stdin=stdin, kill=None)
    if session.detached:
        ctx.err("read escape sequence")
        return 0
    return int(ctx.client.get(f"{path}/json").get("ExitCode") or 0)


def _body(values: Values, *, tty: bool, stdin: bool, detach: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"Cmd": values.args[1:], "Tty": tty}
    if not detach:
        body.update(AttachStdin=stdin, AttachStdout=True, AttachStderr=True)
    body["Env"] = environment(values.many("env-file"), values.many("env"))
    body["User"] = values.text("user")
    body["WorkingDir"] = values.text("workdir")
    body["DetachKeys"] = values.text("detach-keys")
    body["Privileged"] = values.on("privileged")
    window = size() if tty else None
    if window is not None:
        body["ConsoleSize"] = list(window)
    return {key: value for key, value in body.items() if value not in ("", [], False)}


EXEC = Command(
    "exec",
    "Execute a command in a running container",
    _exec,
    flags=[
        flag("-d,--detach", "Detached mode: run command in the background"),
        text("--detach-keys", "Override the key sequence for detaching a container"),
        many("-e,--env", "Set environment variables"),
        many("--env-file", "Read in a file of environment variables", complete="file"),
        flag("-i,--interactive", "Keep STDIN open even if not attached"),
        flag("--privileged", "Give extended privileges to the command"),
        flag("-t,--tty", "Allocate a pseudo-TTY"),
        text("-u,--user", "Username or UID (format: <name|uid>[:<group|gid>])"),
        text("-w,--workdir", "Working directory inside the container"),
    ],
    args=[arg("CONTAINER", complete="running"), arg("COMMAND"), arg("ARG", least=0, most=None)],
    example="pannier exec -it web sh",
    rest=True,
)
