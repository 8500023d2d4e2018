"""Containers' logs: read from their files, and followed without polling."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pannier.bounded import AT_ONCE, Patience
from pannier.engine.launching import log_path
from pannier.engine.logdrivers import driver_of, readable
from pannier.engine.logfiles import Cursor, Lines, Marks, frame, frames_of_lines
from pannier.errors import UnsupportedOperation
from pannier.linux.inotify import IN_MODIFY, IN_MOVED_TO, Inotify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from pannier.driverset import DriverSet
    from pannier.engine.logfiles import Record
    from pannier.engine.model import Container
    from pannier.engine.registry import Live
    from pannier.engine.results import LogLine
    from pannier.engine.sessions import LogOptions
    from pannier.engine.workers import Workers

__all__ = ["Logs"]


class Logs:
    """Reads logs.

    :param folder: where each container has a folder of its own.
    """

    def __init__(self, folder: Path, drivers: DriverSet, workers: Workers) -> None:
        self._folder = folder
        self._drivers = drivers
        self._workers = workers
        self._marks = Marks()
        self._patience = Patience(AT_ONCE)

    def lines(self, live: Live, options: LogOptions) -> AsyncIterator[LogLine]:
        """Yield a container's lines, in order; with ``follow`` until it stops.

        :raises UnsupportedOperation: nothing is logged of it.
        """
        return self._lines(live, options, self._open(live.container, options))

    def framed(self, live: Live, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield a container's output in big chunks, framed unless it has a terminal.

        With ``follow`` each line has a frame of its own: clients show what they follow frame by
        frame. Else frames are as large as what was written.

        :raises UnsupportedOperation: nothing is logged of it.
        """
        return self._framed(live, options, self._open(live.container, options))

    def frames(
        self, container: Container, options: LogOptions, *, raw: bool = False
    ) -> Iterator[bytes]:
        """As :meth:`framed`, blocking, and without ``follow``; *raw* leaves the framing out."""
        cursor = self._open(container, replace(options, follow=False))()
        join = _joiner(container, cursor, raw=raw)
        with contextlib.closing(cursor):
            while records := cursor.read():
                yield join(records)
            yield join(None)

    def _open(self, container: Container, options: LogOptions) -> Callable[[], Cursor]:
        driver = driver_of(self._drivers, container.host.log)
        may_read = partial(readable, driver, container.host.log)
        if not self._patience.ask(driver, may_read):
            raise UnsupportedOperation(
                "configured logging driver does not support reading",
                hint=f"the container was made with --log-driver {container.host.log.driver}",
            )
        path = log_path(self._folder, container.id)
        return lambda: Cursor(path, self._marks, options)

    async def _lines(
        self, live: Live, options: LogOptions, opened: Callable[[], Cursor]
    ) -> AsyncIterator[LogLine]:
        cursor = await self._workers.bulk(opened)
        lines = Lines(cursor.skip)
        with contextlib.closing(cursor):
            async for records in self._batches(live, options, cursor):
                for line in lines.feed(records):
                    yield line
        for line in lines.finish():
            yield line

    async def _framed(
        self, live: Live, options: LogOptions, opened: Callable[[], Cursor]
    ) -> AsyncIterator[bytes]:
        cursor = await self._workers.bulk(opened)
        join = _joiner(live.container, cursor, by_line=options.follow)
        with contextlib.closing(cursor):
            async for records in self._batches(live, options, cursor):
                if chunk := join(records):
                    yield chunk
        if chunk := join(None):
            yield chunk

    async def _batches(
        self, live: Live, options: LogOptions, cursor: Cursor
    ) -> AsyncIterator[list[Record]]:
        if not options.follow:
            while records := await self._workers.bulk(cursor.read):
                yield records
            return
        with Inotify() as inotify:
            folder = log_path(self._folder, live.container.id).parent
            # Before the first read, so that nothing can come unseen between the two.
            with contextlib.suppress(FileNotFoundError):
                inotify.watch(folder, IN_MODIFY | IN_MOVED_TO)
            change = _Change(inotify, live.stopped)
            try:
                while True:
                    # Asked before reading: what was written before the stop is then read.
                    ended = live.stopped.is_set()
                    inotify.read()
                    records = await self._workers.bulk(cursor.read)
                    if records:
                        yield records
                    elif ended or _past(options):
                        return
                    else:
                        await change.wait(options)
            finally:
                change.close()


def _past(options: LogOptions) -> bool:

    return bool(options.until) and time.time_ns() > options.until


class _Change:
    """Waits for a change of the log, the end of the container, or the bound of the request."""

    def __init__(self, inotify: Inotify, stopped: asyncio.Event) -> None:
        self._inotify = inotify
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_task(_until(stopped))

    async def wait(self, options: LogOptions) -> None:
        readable = asyncio.Event()
        self._loop.add_reader(self._inotify.fileno(), readable.set)
        change = self._loop.create_task(_until(readable))
        timeout = None
        if options.until:
            timeout = max(options.until - time.time_ns(), 0) / 1e9 + 0.001
        try:
            await asyncio.wait(
                {change, self._stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._loop.remove_reader(self._inotify.fileno())
            change.cancel()

    def close(self) -> None:
        self._stopped.cancel()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _joiner(
    container: Container, cursor: Cursor, *, by_line: bool = False, raw: bool = False
) -> Callable[[list[Record] | None], bytes]:
    """Return what makes a chunk of bytes of records; None says that there are no more."""
    if raw or container.config.tty:
        wrap: Callable[[int, bytes], bytes] = lambda _, data: data  # noqa: E731
    else:
        wrap = frames_of_lines if by_line else frame
    if not cursor.skip:
        # The records are frames but for their headers: no line need be looked at.
        return lambda records: b"".join([wrap(item[1], item[2]) for item in records or ()])
    lines = Lines(cursor.skip)

    def join(records: list[Record] | None) -> bytes:
        found = lines.finish() if records is None else lines.feed(records)
        return b"".join([wrap(line.stream, line.data) for line in found])

    return join
