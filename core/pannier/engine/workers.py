"""Worker threads: where the drivers' blocking calls are made, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import logging
import queue
import threading
from typing import TYPE_CHECKING, BinaryIO, Generic, ParamSpec, TypeVar, cast

from pannier.engine.pool import Pool
from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Workers", "uninterrupted"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("pannier.engine")

_QUICK = 16
_BULK = 8
_BUFFER = 1 << 18
_LAST_WAIT = 10.0
_AHEAD = 8
"""How many chunks a streaming producer may be ahead of its consumer."""


class Workers:
    """Two pools: one for the short steps of a life cycle, one for work that lasts.

    They are apart so that a few exports or copies cannot hold up every start.

    :param patience: seconds that a short step may take before its caller is told that it hangs.
    """

    def __init__(self, patience: float = 300.0) -> None:
        self._patience = patience
        self._quick = Pool(_QUICK, "pannier-worker")
        self._bulk = Pool(_BULK, "pannier-bulk")
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that takes milliseconds; its OSError becomes a DriverError.

        :raises DriverError: it did not end in time; it goes on, without being waited for.
        """
        return await self._on(self._quick, self._patience, function, *args, **kwargs)

    async def patiently(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of a life cycle that may have any amount of data to copy."""
        return await self._on(self._quick, None, function, *args, **kwargs)

    async def bulk(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may take long; its OSError becomes a DriverError."""
        return await self._on(self._bulk, None, function, *args, **kwargs)

    async def bounded(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may take minutes, as where a driver walks through many files.

        It has the patience of a short step: there is no stream by which it would be seen to go on.

        :raises DriverError: it did not end in time; it goes on, without being waited for.
        """
        return await self._on(self._bulk, self._patience, function, *args, **kwargs)

    async def _on(
        self,
        pool: Pool,
        patience: float | None,
        function: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            return await pool.call(functools.partial(function, *args, **kwargs), patience)
        except OSError as error:
            raise DriverError(str(error)) from error

    def spawn(self, coroutine: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run a coroutine in the background; an error that nobody awaits is logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("a background task ended with %r", error, exc_info=error)

    async def idle(self) -> None:
        """Return when no background task is left."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def stream(self, iterator: Iterator[T]) -> AsyncGenerator[T, None]:
        """Iterate over a blocking generator, which runs on a thread of its own, a little ahead.

        Where the consumer ends early, the generator is closed before its next item.
        """
        channel: _Channel[T] = _Channel(asyncio.get_running_loop())

        def produce() -> None:
            try:
                for item in iterator:
                    if not channel.send(item):
                        break
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()

        async with contextlib.aclosing(self._received(channel, produce)) as items:
            async for item in items:
                yield item

    async def written(self, produce: Callable[[BinaryIO], object]) -> AsyncGenerator[bytes, None]:
        """Iterate over what *produce*, called on a thread, writes into the file it is given.

        Where the consumer ends early, its next write fails with BrokenPipeError.
        """
        channel: _Channel[bytes] = _Channel(asyncio.get_running_loop())

        def run() -> None:
            with io.BufferedWriter(_Output(channel), _BUFFER) as out:
                produce(out)

        async with contextlib.aclosing(self._received(channel, run)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _received(
        self, channel: _Channel[T], produce: Callable[[], object]
    ) -> AsyncGenerator[T, None]:
        def guarded() -> None:
            try:
                produce()
                channel.end(None)
            except BaseException as error:  # noqa: BLE001 - raised where the items are taken
                channel.end(error)

        future = asyncio.ensure_future(self._bulk.call(guarded))
        try:
            while True:
                try:
                    item = await channel.receive()
                except OSError as error:
                    raise DriverError(str(error)) from error
                if item is None:
                    return
                yield item
        finally:
            channel.abandon()
            await asyncio.wait([future])

    @contextlib.asynccontextmanager
    async def reading(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[BinaryIO]:
        """Give a file, for use on a thread, that reads what *chunks* yields.

        What is left unread at the end of the block is read and dropped; an error of *chunks* is
        an OSError of the file's ``read``.
        """
        source = _Chunks(asyncio.get_running_loop())
        pump = asyncio.get_running_loop().create_task(source.pump(chunks))
        try:
            yield cast("BinaryIO", io.BufferedReader(source, _BUFFER))
        finally:
            source.abandon()
            await asyncio.wait([pump])

    async def close(self) -> None:
        """Wait for the background tasks, then end the threads; one that hangs is left behind."""
        await self.idle()
        self._quick.close(_LAST_WAIT)
        self._bulk.close(_LAST_WAIT)


class _Channel(Generic[T]):
    """Hands items from a thread to the event loop, with a bound on how many wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: asyncio.Queue[T | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._gone = False

    def send(self, item: T) -> bool:
        """On the thread: hand an item over; return whether anybody still wants more."""
        self._room.acquire()
        if not self._gone:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        return not self._gone

    def end(self, error: BaseException | None) -> None:
        """On the thread: say that no more will come."""
        self._loop.call_soon_threadsafe(self._items.put_nowait, error)

    async def receive(self) -> T | None:
        """Return the next item; None at the end."""
        item = await self._items.get()
        if isinstance(item, BaseException):
            raise item
        self._room.release()
        return item

    def abandon(self) -> None:
        """Say that nobody will take more."""
        self._gone = True
        self._room.release()


class _Output(io.RawIOBase):
    """A file that hands what is written to a channel."""

    def __init__(self, channel: _Channel[bytes]) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        chunk = bytes(data)
        if not self._channel.send(chunk):
            raise BrokenPipeError("nobody reads any more")
        return len(chunk)


class _Chunks(io.RawIOBase):
    """The blocking end of an asynchronous stream of chunks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(_AHEAD)
        self._rest = b""
        self._ended = False
        self._abandoned = False

    async def pump(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                if chunk and not self._abandoned:
                    await self._room.acquire()
                    self._queue.put(chunk)
            self._queue.put(None)
        except Exception as error:  # noqa: BLE001 - raised in the reader
            self._queue.put(ConnectionError(f"the input broke off: {error}"))

    def abandon(self) -> None:
        self._abandoned = True
        for _ in range(_AHEAD):
            self._room.release()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            if item is None:
                self._ended = True
            else:
                self._rest = item
                self._loop.call_soon_threadsafe(self._room.release)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def uninterrupted(
    function: Callable[P, Coroutine[object, object, T]],
) -> Callable[P, Coroutine[object, object, T]]:
    """Have a coroutine function run to its end although its caller is cancelled.

    A client that goes away cancels its request; what was begun on a worker thread goes on there,
    so the lock that guards it must be kept, too.
    """
    running: set[asyncio.Task[T]] = set()

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.get_running_loop().create_task(function(*args, **kwargs))
        running.add(task)
        task.add_done_callback(running.discard)
        return await asyncio.shield(task)

    return wrapper
