"""``pannier stop``, ``restart``, ``kill``, ``rm``, ``pause``, ``unpause``, ``rename``, ``wait``."""

from __future__ import annotations

from pannier.cli.command import Argument, Command, UsageError, arg, flag, text
from pannier.cli.creating import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["KILL", "PAUSE", "RENAME", "RESTART", "RM", "STOP", "UNPAUSE", "WAIT"]


def _names(complete: str) -> list[Argument]:
    return [arg("CONTAINER", most=None, complete=complete)]


def _stopping(ctx: Context, values: Values, verb: str) -> int:
    seconds: int | None = None
    for name in ("timeout", "time"):
        if values.given(name):
            seconds = values.number(name)
    query = {"signal": values.text("signal") or None, "t": seconds}
    return ctx.each(
        values.args, lambda name: ctx.client.post(f"{container_path(name)}/{verb}", query)
    )


def _stop(ctx: Context, values: Values) -> int:
    return _stopping(ctx, values, "stop")


def _restart(ctx: Context, values: Values) -> int:
    return _stopping(ctx, values, "restart")


def _kill(ctx: Context, values: Values) -> int:
    query = {"signal": values.text("signal") or None}
    return ctx.each(
        values.args, lambda name: ctx.client.post(f"{container_path(name)}/kill", query)
    )


def _rm(ctx: Context, values: Values) -> int:
    query = {
        "force": values.on("force") or None,
        "v": values.on("volumes") or None,
        "link": values.on("link") or None,
    }

    def remove(name: str) -> None:
        plain = name.strip("/")
        if not plain:
            raise UsageError("container name cannot be empty", code=1)
        ctx.client.delete(container_path(plain), query)

    return ctx.each(values.args, remove, forced=values.on("force"))


def _pause(ctx: Context, values: Values) -> int:
    return ctx.each(values.args, lambda name: ctx.client.post(f"{container_path(name)}/pause"))


def _unpause(ctx: Context, values: Values) -> int:
    return ctx.each(values.args, lambda name: ctx.client.post(f"{container_path(name)}/unpause"))


def _rename(ctx: Context, values: Values) -> int:
    old, new = (name.strip() for name in values.args)
    if not old or not new:
        raise UsageError("neither the old nor the new name may be empty", code=1)
    ctx.client.post(f"{container_path(old)}/rename", {"name": new})
    return 0


def _wait(ctx: Context, values: Values) -> int:
    def wait(name: str) -> None:
        answer = ctx.client.post(f"{container_path(name)}/wait")
        ctx.out(str(answer["StatusCode"]))

    return ctx.each(values.args, wait, echo=False)


_STOP_FLAGS = [
    text("-s,--signal", "Signal to send to the container"),
    text("-t,--timeout", "Seconds to wait before killing the container", metavar="int"),
    text("--time", "The same as --timeout", metavar="int"),
]

STOP = Command(
    "stop",
    "Stop one or more running containers",
    _stop,
    flags=_STOP_FLAGS,
    args=_names("running"),
    example="pannier stop -t 3 web",
)
RESTART = Command(
    "restart",
    "Restart one or more containers",
    _restart,
    flags=_STOP_FLAGS,
    args=_names("container"),
    example="pannier restart web",
)
KILL = Command(
    "kill",
    "Kill one or more running containers",
    _kill,
    flags=[text("-s,--signal", "Signal to send to the container")],
    args=_names("running"),
    example="pannier kill -s HUP web",
)
RM = Command(
    "rm",
    "Remove one or more containers",
    _rm,
    flags=[
        flag("-f,--force", "Force the removal of a running container (uses SIGKILL)"),
        flag("-l,--link", "Remove the specified link"),
        flag("-v,--volumes", "Remove anonymous volumes associated with the container"),
    ],
    args=_names("container"),
    example="pannier rm -fv web",
)
PAUSE = Command(
    "pause",
    "Pause all processes within one or more containers",
    _pause,
    args=_names("running"),
    example="pannier pause web",
)
UNPAUSE = Command(
    "unpause",
    "Unpause all processes within one or more containers",
    _unpause,
    args=_names("container"),
    example="pannier unpause web",
)
RENAME = Command(
    "rename",
    "Rename a container",
    _rename,
    args=[arg("CONTAINER", complete="container"), arg("NEW_NAME")],
    example="pannier rename web old-web",
)
WAIT = Command(
    "wait",
    "Block until one or more containers stop, then print their exit codes",
    _wait,
    args=_names("container"),
    example="pannier wait web",
)
