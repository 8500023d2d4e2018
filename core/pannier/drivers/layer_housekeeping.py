"""What a layer store leaves to a thread: removing trees, and waiting for the disk.

Both are tasks that nobody should wait for, and that may be lost with the process: the next one
that opens the store finds what is left of them.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

from pannier.linux.sync import syncfs
from pannier.linux.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Housekeeper"]

_log = logging.getLogger("pannier.storage")


class Housekeeper:
    """Does tasks one after another, in a thread that starts with the first.

    :param trash: a descriptor of the folder in which trees wait to be removed.
    """

    def __init__(self, trash: int) -> None:
        self._trash = trash
        self._tasks: queue.Queue[Callable[[], None]] = queue.Queue()
        self._unsynced: list[Callable[[], None]] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def remove(self, name: bytes) -> None:
        """Have the tree *name* removed from the trash soon."""
        self._do(lambda: remove_tree(name, self._trash))

    def sync(self, mark: Callable[[], None]) -> None:
        """Have *mark* called once everything written so far is on the disk.

        Several that wait at the same time wait for the disk once.
        """
        with self._lock:
            self._unsynced.append(mark)
        self._do(self._sync)

    def _sync(self) -> None:
        with self._lock:
            marks, self._unsynced = self._unsynced, []
        if marks:
            syncfs(self._trash)
        for mark in marks:
            mark()

    def _do(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="layers", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            task = self._tasks.get()
            try:
                task()
            except OSError as error:
                # Is tried again when the store is opened next.
                _log.warning("the layer store could not tidy up: %s", error)
            finally:
                self._tasks.task_done()

    def settle(self) -> None:
        """Wait until everything is done that was asked for so far."""
        self._tasks.join()

    def close(self) -> None:
        """Stop after the present task; what is left waits for the next one to open the store."""
        with self._lock:
            self._closed.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(lambda: None)
            thread.join()
