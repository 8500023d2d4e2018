"""What a layer store leaves to a thread: removing trees, and waiting for the disk.

Both are tasks that nobody should wait for, and that may be lost with the process: the next one
that opens the store finds what is left of them. While a layer is being made they stand back, since
somebody does wait for that one: a layer of thousands of files takes twice as long where as many go
on the same disk, and where a commit of the filesystem's journal comes in between. They stand back
for a while only, and not where the disk is nearly full, as the room may be needed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from pannier.linux.sync import syncfs
from pannier.linux.trees import DIRECTORY, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["Housekeeper", "Remove"]

_log = logging.getLogger("pannier.storage")

_PATIENCE: Final = 30.0
"""Seconds after which a task stands back no more."""

_GRACE: Final = 0.5
"""Seconds after a layer was made in which the next one of its image is likely to be begun."""

_FULL: Final = 0.1
"""The share of a filesystem that is free, below which what is in the trash goes at once."""


class Remove(Protocol):
    """A way to remove a folder with all that is in it."""

    def __call__(self, name: bytes, dir_fd: int, *, between: Callable[[], None]) -> None:
        """Remove the folder *name* in the folder *dir_fd*. Idempotent.

        :param between: to be called now and then while it goes on: it may take its time, so that
            somebody who waits for the disk comes first.
        :raises OSError: what is left is tried again when the store is opened next.
        """


class Housekeeper:
    """Does tasks one after another, in a thread that starts with the first.

    :param trash: a descriptor of the folder in which trees wait to be removed.
    :param remove: how they are removed.
    :param patience: seconds that a task may stand back for layers that are being made.
    """

    def __init__(
        self, trash: int, remove: Remove = remove_tree, *, patience: float = _PATIENCE
    ) -> None:
        self._trash = trash
        self._remove = remove
        self._patience = patience
        self._tasks: queue.Queue[Callable[[], None]] = queue.Queue()
        self._unsynced: list[Callable[[], None]] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._making = 0
        self._made = -math.inf
        self._hurried = 0
        self._deadline = 0.0
        self._thread: threading.Thread | None = None

    def remove(self, name: bytes) -> None:
        """Have the tree *name* removed from the trash soon."""
        self._do(lambda: self._remove(name, self._trash, between=self._stand_back))

    def remove_now(self, folder: Path, first: Iterable[str]) -> None:
        """Remove a folder where it is, and wait for that: one that cannot be moved to the trash.

        :param first: the names of the files in it that say that it is whole.
        """
        here = os.open(folder.parent, DIRECTORY)
        try:
            for name in first:
                (folder / name).unlink(missing_ok=True)
            self._remove(os.fsencode(folder.name), here, between=lambda: None)
        finally:
            os.close(here)

    def sync(self, mark: Callable[[], None]) -> None:
        """Have *mark* called once everything written so far is on the disk.

        Several that wait at the same time wait for the disk once: an image's layers, say.
        """
        with self._lock:
            self._unsynced.append(mark)
        self._do(self._sync)

    def _sync(self) -> None:
        self._stand_back()
        with self._lock:
            marks, self._unsynced = self._unsynced, []
        if marks:
            syncfs(self._trash)
        for mark in marks:
            mark()

    @contextlib.contextmanager
    def standing_back(self) -> Iterator[None]:
        """Have the tasks stand back while a layer is made in a block."""
        with self._lock:
            self._making += 1
        try:
            yield
        finally:
            with self._changed:
                self._making -= 1
                self._made = time.monotonic()
                self._changed.notify_all()

    def _stand_back(self) -> None:
        with self._changed:
            while (seconds := self._to_wait()) > 0:
                self._changed.wait(seconds)

    def _to_wait(self) -> float:
        now = time.monotonic()
        until = self._deadline if self._making else min(self._deadline, self._made + _GRACE)
        if until <= now or self._hurried or self._closed.is_set() or self._is_nearly_full():
            return 0
        return until - now

    def _is_nearly_full(self) -> bool:
        found = os.fstatvfs(self._trash)
        return found.f_bavail < found.f_blocks * _FULL

    def _do(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="layers", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            task = self._tasks.get()
            self._deadline = time.monotonic() + self._patience
            try:
                task()
            except OSError as error:
                # Is tried again when the store is opened next.
                _log.warning("the layer store could not tidy up: %s", error)
            finally:
                self._tasks.task_done()

    def settle(self) -> None:
        """Wait until everything is done that was asked for so far, at once."""
        self._hurry(1)
        try:
            self._tasks.join()
        finally:
            self._hurry(-1)

    def _hurry(self, more: int) -> None:
        with self._changed:
            self._hurried += more
            self._changed.notify_all()

    def close(self) -> None:
        """Stop after the present task; what is left waits for the next one to open the store."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(lambda: None)
            thread.join()
