"""``pannier run``."""

from __future__ import annotations

import sys

from pannier.cli.command import Command, UsageError, arg
from pannier.cli.createbody import create_body
from pannier.cli.creating import container_path, create_container
from pannier.cli.runflags import RUN_FLAGS
from pannier.cli.session import Session, run_session
from pannier.cli.status import start_status
from pannier.cli.terminal import DEFAULT_DETACH_KEYS, parse_keys, require_tty, size
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context
    from pannier.client import Client
    from pannier.client.api import Deferred

__all__ = ["RUN", "Foreground"]

#: Seconds in which the daemon should confirm that it watches for the exit. One that confirms late
#: still answers; it might only miss a process that ends within these moments.
_CONFIRM = 1.0
_REMOVAL = 2.0


def _run(ctx: Context, values: Values) -> int:
    detach = values.on("detach")
    if values.on("explain"):
        from pannier.cli.explain import explain

        return explain(ctx, values, create_body(values, detach=detach))
    if detach and values.many("attach"):
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    body = create_body(values, detach=detach)
    tty = bool(body.get("Tty"))
    if not detach:
        require_tty(interactive=bool(body.get("AttachStdin")), tty=tty)
    window = size() if tty else None
    if window is not None:
        body["HostConfig"]["ConsoleSize"] = list(window)
    keys = values.text("detach-keys")
    if keys:
        parse_keys(keys)
    identifier = create_container(ctx, values, body)
    if detach:
        return _detached(ctx, values, identifier)
    foreground = Foreground(
        ctx.client,
        identifier,
        tty=tty,
        stdin=bool(body.get("AttachStdin")),
        stdout=bool(body.get("AttachStdout")),
        stderr=bool(body.get("AttachStderr")),
        removed=values.on("rm"),
        keys=keys,
        proxy=values.on("sig-proxy"),
        trace=values.given("trace"),
    )
    status = foreground.run(ctx)
    if foreground.events is not None:
        from pannier.cli.trace import report_trace

        report_trace(ctx, values.text("trace"), foreground.events)
    return status


def _detached(ctx: Context, values: Values, identifier: str) -> int:
    path = container_path(identifier)
    trace = values.given("trace")
    # Also where it cannot start: it is there then, and somebody may want to remove it.
    ctx.out(identifier)
    try:
        ctx.client.post(f"{path}/start", {"trace": 1} if trace else None)
    except PannierError as error:
        ctx.report(error)
        return start_status(error)
    if trace:
        from pannier.cli.trace import fetch_trace, report_trace

        sys.stdout.flush()
        report_trace(ctx, values.text("trace"), fetch_trace(ctx.client, identifier))
    return 0


class Foreground:
    """Runs a created container attached: attach, register the wait, start, stream, status.

    :param removed: wait until the container has gone, too (``--rm``).
    :param keys: the detach sequence; empty for the default.
    """

    def __init__(
        self,
        client: Client,
        identifier: str,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        removed: bool,
        keys: str = "",
        proxy: bool = True,
        trace: bool = False,
    ) -> None:
        self._client = client
        self._identifier = identifier
        self._path = container_path(identifier)
        self._tty = tty
        self._streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        self._removed = removed
        self._keys = keys
        self._proxy = proxy
        self._trace = trace
        self.events: list[dict[str, Any]] | None = None

    def run(self, ctx: Context) -> int:
        """Return the container's exit status, or 125 to 127 where it could not start."""
        condition = "removed" if self._removed else "next-exit"
        waiter = self._client.defer("POST", f"{self._path}/wait", query={"condition": condition})
        try:
            session = self._attach()
            try:
                waiter.accepted(_CONFIRM)
                self._stream(session)
            except _StartRefused as refused:
                ctx.report(refused.error)
                if self._removed:
                    waiter.settled(_REMOVAL)
                return start_status(refused.error)
            finally:
                session.close()
            if session.detached:
                ctx.err("read escape sequence")
                return 0
            return wait_status(ctx, waiter)
        finally:
            waiter.close()

    def _attach(self) -> Session:
        query: dict[str, Any] = {"stream": True}
        query.update({name: True for name, wanted in self._streams.items() if wanted})
        if self._keys:
            query["detachKeys"] = self._keys
        stream = self._client.hijack(f"{self._path}/attach", query=query)
        keys = parse_keys(self._keys or DEFAULT_DETACH_KEYS) if self._tty else b""
        return Session(stream, raw=self._tty, stdin=self._streams["stdin"], keys=keys)

    def _stream(self, session: Session) -> None:
        run_session(
            self._client,
            self._path,
            session,
            tty=self._tty,
            stdin=self._streams["stdin"],
            kill=self._kill if self._proxy else None,
            begin=self._start,
        )

    def _kill(self, name: str) -> None:
        self._client.post(f"{self._path}/kill", {"signal": name})

    def _start(self) -> None:
        try:
            self._client.post(f"{self._path}/start", {"trace": 1} if self._trace else None)
        except PannierError as error:
            raise _StartRefused(error) from error
        if self._trace:
            from pannier.cli.trace import fetch_trace

            # Now: with --rm there is nothing left to ask later.
            self.events = fetch_trace(self._client, self._identifier)


class _StartRefused(Exception):
    """The daemon would not start the container."""

    def __init__(self, error: PannierError) -> None:
        super().__init__(str(error))
        self.error = error


def wait_status(ctx: Context, waiter: Deferred) -> int:
    """Wait for the container's end and return its exit status."""
    answer = waiter.json() or {}
    problem = answer.get("Error")
    if problem and problem.get("Message"):
        ctx.err(f"Error: waiting for the container: {problem['Message']}")
        return 125
    return int(answer.get("StatusCode", 0))


RUN = Command(
    "run",
    "Create and run a new container from an image",
    _run,
    flags=RUN_FLAGS,
    args=[arg("IMAGE", least=0, complete="image"), arg("[COMMAND] [ARG...]", least=0, most=None)],
    example="pannier run --rm -it -v /srv:/data:ro -p 8080:80 busybox sh",
    rest=True,
    failure=125,
)
