"""Calls whose answers are streams, what only shows in events, and calls about what is not there."""

from __future__ import annotations

from typing import Any

from support.asking import Ask, filters

__all__ = ["NOWHERE", "STREAMS"]

_DETACH = b"\x10\x11"
"""The keys that leave a container to itself: control P, control Q."""
_CAT: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["cat"],
    "OpenStdin": True,
    "StdinOnce": True,
    "AttachStdin": True,
    "AttachStdout": True,
    "HostConfig": {"NetworkMode": "none"},
}
_ALL = "stream=1&stdin=1&stdout=1&stderr=1"


def _health(name: str, program: str) -> dict[str, Any]:
    return {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "Labels": {"health": name},
        "Healthcheck": {"Test": ["CMD", program], "Interval": 100_000_000, "Retries": 1},
        "HostConfig": {"NetworkMode": "none"},
    }


def _await(container: str, event: str) -> str:
    return f"/events?since=1&filters={filters(container=container, event=event)}"


STREAMS = (
    Ask("attach to logs", "POST", "/containers/box/attach?logs=1&stdout=1&stderr=1"),
    Ask(
        "attach to logs, upgraded",
        "POST",
        "/containers/box/attach?logs=1&stdout=1&stderr=1",
        upgrade="tcp",
    ),
    Ask(
        "attach by a web socket",
        "GET",
        "/containers/box/attach/ws?logs=1&stdout=1&stderr=1",
        upgrade="websocket",
    ),
    Ask("attach with wrong keys", "POST", f"/containers/box/attach?{_ALL}&detachKeys=nonsense"),
    Ask("logs of one stream", "GET", "/containers/box/logs?stderr=1&timestamps=0&tail=1"),
    Ask("logs with a wrong tail", "GET", "/containers/box/logs?stdout=1&tail=nonsense"),
    Ask("logs with a wrong time", "GET", "/containers/box/logs?stdout=1&since=nonsense"),
    Ask("create of one that is fed", "POST", "/containers/create?name=cat", _CAT),
    Ask("start of one that is fed", "POST", "/containers/cat/start"),
    Ask(
        "attach that feeds",
        "POST",
        f"/containers/cat/attach?{_ALL}",
        upgrade="tcp",
        send=b"said\n",
    ),
    Ask("wait for one that was fed", "POST", "/containers/cat/wait?condition=not-running"),
    Ask("wait by a wrong condition", "POST", "/containers/cat/wait?condition=nonsense"),
    Ask("attach to one exited", "POST", "/containers/cat/attach?logs=1&stdout=1"),
    Ask("create with a terminal", "POST", "/containers/create?name=tty", _CAT | {"Tty": True}),
    Ask("start with a terminal", "POST", "/containers/tty/start"),
    Ask("resize of a terminal", "POST", "/containers/tty/resize?h=20&w=40"),
    Ask("resize to nonsense", "POST", "/containers/tty/resize?h=x&w=40"),
    Ask(
        "attach that leaves",
        "POST",
        f"/containers/tty/attach?{_ALL}",
        upgrade="tcp",
        send=_DETACH,
    ),
    Ask("logs of a terminal", "GET", "/containers/tty/logs?stdout=1"),
    Ask("inspect with a terminal", "GET", "/containers/tty/json"),
    # Execs.
    Ask(
        "exec create of one attached",
        "POST",
        "/containers/box/exec",
        {"Cmd": ["sh", "-c", "echo a; echo b >&2"], "AttachStdout": True, "AttachStderr": True},
        keep="attached",
    ),
    Ask("exec start of one attached", "POST", "/exec/{attached}/start", {"Detach": False}),
    Ask("exec inspect of one exited", "GET", "/exec/{attached}/json"),
    Ask("exec start of one exited", "POST", "/exec/{attached}/start", {"Detach": False}),
    Ask("exec resize of one exited", "POST", "/exec/{attached}/resize?h=1&w=1"),
    Ask(
        "exec create of one fed",
        "POST",
        "/containers/box/exec",
        {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True},
        keep="fed",
    ),
    Ask(
        "exec start, upgraded",
        "POST",
        "/exec/{fed}/start",
        {"Detach": False},
        upgrade="tcp",
        send=b"said\n",
    ),
    Ask(
        "exec create with a terminal",
        "POST",
        "/containers/box/exec",
        {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True, "Tty": True},
        keep="terminal",
    ),
    Ask(
        "exec start that leaves",
        "POST",
        "/exec/{terminal}/start",
        {"Detach": False, "Tty": True},
        upgrade="tcp",
        send=_DETACH,
    ),
    Ask(
        "exec create of one resized",
        "POST",
        "/containers/box/exec",
        {"Cmd": ["sleep", "1000"], "AttachStdout": True, "Tty": True},
        keep="resized",
    ),
    Ask("exec start in the background", "POST", "/exec/{resized}/start", {"Detach": True}),
    Ask("exec resize", "POST", "/exec/{resized}/resize?h=20&w=40"),
    Ask("exec resize to nonsense", "POST", "/exec/{resized}/resize?h=x&w=40"),
    Ask("exec resize of none", "POST", "/exec/nothing/resize?h=20&w=40"),
    Ask(
        "exec create of a wrong program",
        "POST",
        "/containers/box/exec",
        {"Cmd": ["/nothing"], "AttachStdout": True},
        keep="wrong",
    ),
    Ask("exec start of a wrong program", "POST", "/exec/{wrong}/start", {"Detach": False}),
    Ask("exec inspect of a wrong program", "GET", "/exec/{wrong}/json"),
    # Health, and memory that runs out.
    Ask("create of a healthy one", "POST", "/containers/create?name=well", _health("well", "true")),
    Ask("create of an ill one", "POST", "/containers/create?name=ill", _health("ill", "false")),
    Ask("start of a healthy one", "POST", "/containers/well/start"),
    Ask("start of an ill one", "POST", "/containers/ill/start"),
    Ask("told of health", "GET", _await("well", "health_status"), first=True),
    Ask("told of illness", "GET", _await("ill", "health_status"), first=True),
    Ask("inspect of a healthy one", "GET", "/containers/well/json"),
    Ask("inspect of an ill one", "GET", "/containers/ill/json"),
    Ask("list of healthy ones", "GET", f"/containers/json?filters={filters(health='healthy')}"),
    Ask(
        "create of a greedy one",
        "POST",
        "/containers/create?name=greedy",
        {
            "Image": "busybox",
            "Cmd": ["tail", "/dev/zero"],
            "HostConfig": {"NetworkMode": "none", "Memory": 16 << 20, "MemorySwap": 16 << 20},
        },
    ),
    Ask("start of a greedy one", "POST", "/containers/greedy/start"),
    Ask("wait for a greedy one", "POST", "/containers/greedy/wait"),
    Ask("told of memory that ran out", "GET", _await("greedy", "oom"), first=True),
    Ask("inspect of a greedy one", "GET", "/containers/greedy/json"),
    *(
        Ask(f"delete of {name}", "DELETE", f"/containers/{name}?force=1")
        for name in ("cat", "tty", "well", "ill", "greedy")
    ),
)

NOWHERE = (
    *(
        Ask(f"{verb} of none", "POST", f"/containers/nothing/{verb}")
        for verb in ("stop", "restart", "kill", "pause", "unpause", "attach")
    ),
    *(
        Ask(f"{what} of none", "GET", f"/containers/nothing/{what}")
        for what in ("top", "changes", "export")
    ),
    Ask("logs of none", "GET", "/containers/nothing/logs?stdout=1"),
    Ask("stats of none", "GET", "/containers/nothing/stats?stream=0"),
    Ask("resize of none", "POST", "/containers/nothing/resize?h=1&w=1"),
    Ask("rename of none", "POST", "/containers/nothing/rename?name=renamed"),
    Ask("update of none", "POST", "/containers/nothing/update", {"Memory": 64 << 20}),
    Ask("exec in none", "POST", "/containers/nothing/exec", {"Cmd": ["true"]}),
    Ask("attach by a web socket to none", "GET", "/containers/nothing/attach/ws"),
    Ask("archive head of none", "HEAD", "/containers/nothing/archive?path=/"),
    Ask("archive get from none", "GET", "/containers/nothing/archive?path=/"),
    Ask("archive put to none", "PUT", "/containers/nothing/archive?path=/", b""),
    Ask("network connect of none", "POST", "/networks/bridge/connect", {"Container": "nothing"}),
    Ask("network connect to none", "POST", "/networks/nothing/connect", {"Container": "nothing"}),
    Ask(
        "network disconnect from none",
        "POST",
        "/networks/nothing/disconnect",
        {"Container": "nothing"},
    ),
)
"""Calls about containers that are not there; no test of their own needs one that is."""
