"""The daemon: wires configuration, drivers, engine and server, and serves until it is told to stop.

This is the composition root; no other module knows all of these. Containers live on when the
daemon goes, however it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import functools
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from pannier.build.service import Builder
from pannier.config import Config, load
from pannier.database import Database
from pannier.driverset import DriverSet, open_drivers
from pannier.engine.engine import Engine
from pannier.engine.settings import EngineSettings
from pannier.errors import ConfigError, Conflict, DriverUnavailable, PannierError
from pannier.images.images import ImageStore
from pannier.images.registry.settings import RegistryOptions
from pannier.plugins import DriverRecord, Drivers
from pannier.server.app import create_app
from pannier.server.connection import Site, acceptor
from pannier.server.identity import Identity
from pannier.server.listening import Listener, TlsFiles, open_listeners, parse_hosts
from pannier.server.tls import TlsFront
from pannier.subids import parse_remap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["main", "serve"]

T = TypeVar("T")

_log = logging.getLogger("pannier.daemon")

_FIRST_PASSED_SOCKET = 3  # sd_listen_fds(3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if options.background:
        # Out of the terminal's session and of the process group that Ctrl-C reaches.
        with contextlib.suppress(OSError):
            os.setsid()
        os.chdir("/")
    try:
        config = load(options.config)
        asyncio.run(serve(config))
    except PannierError as error:
        sys.stderr.write(f"Error: {error}\n")
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pannier daemon", description="Run the Pannier daemon.")
    parser.add_argument("--config", metavar="FILE", help="the TOML configuration file")
    parser.add_argument("--debug", action="store_true", help="log what happens in detail")
    parser.add_argument("--background", action="store_true", help="leave the caller's session")
    return parser


async def serve(config: Config) -> None:
    """Start everything, serve, and stop in reverse when a signal asks for it.

    :raises PannierError: the daemon cannot start, or another one is running.
    """
    if os.geteuid() != 0:
        raise DriverUnavailable("the daemon needs root", hint="run: sudo pannier daemon")
    _listeners(config)
    for folder, mode in ((config.engine.root, 0o711), (config.engine.state, 0o711)):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_sole_daemon(config.engine.state))
        found = await _unless(stopping, functools.partial(_find_drivers, config))
        if found is None:
            _log.info("stopping before the drivers are open")
            return
        drivers, opened = found
        stack.callback(opened.close)
        engine, builder = await _open_engine(config, opened, stack)
        app = create_app(
            engine,
            drivers=lambda: [_row(r, drivers) for r in drivers.probe_all()],
            loads=lambda: [call.row() for call in drivers.trace.calls],
            identity=Identity(experimental=config.engine.experimental),
            builder=builder,
        )
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2.0, keepalive_timeout=3600
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await stack.enter_async_context(_listening(runner, config))
        await stopping.wait()
        _log.info("stopping; containers go on")


async def _unless(stopping: asyncio.Event, function: Callable[[], T]) -> T | None:
    """Return what *function* returns on a thread of its own; None once the daemon is to stop.

    The thread, in which strangers' code may hang, ends with the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            try:
                answer = function()
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                loop.call_soon_threadsafe(done.set_exception, error)
            else:
                loop.call_soon_threadsafe(done.set_result, answer)

    threading.Thread(target=call, name="pannier-opening", daemon=True).start()
    told = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((done, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    return done.result() if done.done() else None


def _find_drivers(config: Config) -> tuple[Drivers, DriverSet]:
    drivers = Drivers(config)
    return drivers, open_drivers(drivers)


async def _open_engine(
    config: Config, opened: DriverSet, stack: contextlib.AsyncExitStack
) -> tuple[Engine, Builder]:
    database = Database(config.engine.root / "pannier.db")
    stack.callback(database.close)
    settings = EngineSettings(
        root=config.engine.root,
        state=config.engine.state,
        userns_remap=parse_remap(config.engine.userns_remap),
        patience=config.drivers.patience,
    )
    images = ImageStore(
        config.engine.root,
        database,
        opened.storage,
        others=opened.storages,
        patience=config.drivers.patience,
    )
    registries = RegistryOptions(config.registry, config.registries)
    engine = Engine(settings, database, opened, images, registries)
    await engine.start()
    stack.push_async_callback(engine.close)
    builder = Builder(engine, images, database, config.engine.root, config.engine.state)
    stack.push_async_callback(builder.close)
    await builder.clear()
    return engine, builder


def _row(record: DriverRecord, drivers: Drivers) -> dict[str, Any]:
    chosen = getattr(drivers.config.drivers, record.kind, "") if record.kind else ""
    if chosen == "auto":
        chosen = drivers.choose(record.kind).id
    return {
        "Kind": record.kind,
        "Id": record.id,
        "Distribution": record.distribution,
        "Version": record.version,
        "Usable": record.usable,
        "Reason": record.reason,
        "Hint": record.hint,
        "Capabilities": list(record.capabilities),
        "Chosen": record.id == chosen,
    }


@contextlib.contextmanager
def _sole_daemon(state: Path) -> Iterator[None]:
    """Hold the lock that keeps a second daemon off this state folder; the kernel lets it go."""
    descriptor = os.open(state / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode().strip()
            raise Conflict(
                f"another daemon (process {owner}) is using {state}",
                hint="stop it, or choose another [engine] state and root",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _listeners(config: Config) -> tuple[list[Listener], TlsFiles | None]:
    """Return where to listen besides what systemd passes; wrong settings are found out here.

    :raises ConfigError: [engine] asks for something impossible or dangerous.
    """
    engine = config.engine
    named = (engine.tls_ca, engine.tls_cert, engine.tls_key)
    files = None
    if engine.tls_ca and engine.tls_cert and engine.tls_key:
        files = TlsFiles(engine.tls_ca, engine.tls_cert, engine.tls_key)
    elif any(named):
        raise ConfigError(
            "[engine] has some of tls_ca, tls_cert and tls_key, but not all",
            hint="TLS needs all three: every client is to show a certificate that tls_ca signed",
        )
    if files is not None:
        files.context()
    found = parse_hosts(
        engine.hosts, tls=files is not None, insecure_loopback=engine.insecure_loopback
    )
    # Where the command line looks by itself comes first, and once.
    first = Listener(f"unix://{engine.socket}", path=str(engine.socket))
    return [first, *(item for item in found if item.path != first.path)], files


@contextlib.asynccontextmanager
async def _listening(runner: web.AppRunner, config: Config) -> AsyncIterator[None]:
    """Serve at every address of the configuration, and on the sockets that systemd passed."""
    listeners, files = _listeners(config)
    async with contextlib.AsyncExitStack() as stack:
        passed = _passed_sockets()
        if passed:
            # They stand for the configured socket.
            listeners = listeners[1:]
        for listening in passed:
            await _serve(stack, runner, listening)
        opened = stack.enter_context(open_listeners(listeners, config.engine.group))
        for listener, listening in opened:
            if listener.tls:
                assert files is not None
                front = TlsFront(listening, files.context(), acceptor(runner))
                await front.start()
                stack.push_async_callback(front.close)
            else:
                await _serve(stack, runner, listening)
            _log.info("listening on %s", listener.text)
            if listener.host and not listener.tls:
                _log.warning("%s: every user of this host is root through it", listener.text)
        yield


async def _serve(
    stack: contextlib.AsyncExitStack, runner: web.AppRunner, listening: socket.socket
) -> None:
    """Serve on a socket until the stack is left: before that the loop must not lose it."""
    site = Site(runner, listening)
    await site.start()
    stack.push_async_callback(site.stop)


def _passed_sockets() -> list[socket.socket]:
    """Return the sockets that systemd passed (sd_listen_fds(3))."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    passed = range(_FIRST_PASSED_SOCKET, _FIRST_PASSED_SOCKET + count)
    return [socket.socket(fileno=descriptor) for descriptor in passed]


if __name__ == "__main__":
    sys.exit(main())
