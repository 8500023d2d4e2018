"""The containers that live in memory, with their locks, and how they are named.

The database keeps what a restart needs; this is what the event loop works with. Only the event
loop's thread touches it.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pannier.engine import names
from pannier.errors import Conflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pannier.drivers.operations import Timing
    from pannier.drivers.runtime import Connection, RuntimeWatch
    from pannier.engine.model import Container, ContainerState
    from pannier.engine.results import WaitCondition, WaitResult

__all__ = ["Live", "Registry"]

_TRACES = 32
"""How many traces are kept."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


@dataclass(slots=True, eq=False)
class Live:
    """A container in memory.

    :param lock: held by whatever changes the container.
    :param waiters: whom to tell when it stops or goes.
    :param pending: clients that attached before the start.
    :param stopped: set while there is no process; waited for by stop and remove.
    :param restart: the timer of a restart to come.
    :param begun: when it was last started, on the event loop's clock, in seconds.
    :param backoff: seconds to wait before the next restart.
    :param ending: its end was told, and is not noted yet.
    :param stopping: a stop is under way: the restart policy does not apply.
    :param keep: a restart is under way: ``--rm`` does not apply.
    :param kept: descriptors held for the container, which its runtime could not keep.
    :param execs: the ids of its execs.
    :param moving: the networks, by name, that it is just joining or leaving: they have to stay,
        although its record may say that it is in none of them.
    """

    container: Container
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    watch: RuntimeWatch | None = None
    waiters: list[tuple[WaitCondition, asyncio.Future[WaitResult]]] = field(default_factory=list)
    pending: list[Connection] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    restart: asyncio.TimerHandle | None = None
    begun: float = 0.0
    backoff: float = 0.0
    ending: bool = False
    stopping: bool = False
    keep: bool = False
    kept: tuple[int, ...] = ()
    execs: set[str] = field(default_factory=set)
    moving: frozenset[str] = frozenset()
    removed: bool = False

    def set_state(self, state: ContainerState) -> None:
        """Replace the container's state."""
        self.container = replace(self.container, state=state)

    @contextlib.contextmanager
    def changing(self, networks: Iterable[str]) -> Iterator[None]:
        """Have networks stay while the container joins or leaves them; its lock is held."""
        self.moving = frozenset(networks)
        try:
            yield
        finally:
            self.moving = frozenset()


class Registry:
    """Finds live containers by name, id, or prefix of an id."""

    def __init__(self) -> None:
        self._lives: dict[str, Live] = {}
        self._names: dict[str, str] = {}
        self._ids: list[str] = []
        self._traces: dict[str, list[tuple[str, Timing]]] = {}

    def __iter__(self) -> Iterator[Live]:
        return iter(tuple(self._lives.values()))

    def __len__(self) -> int:
        return len(self._lives)

    def find(self, ref: str) -> Live:
        """Return a container.

        :raises NotFound: none is meant by *ref*.
        :raises InvalidRequest: several ids begin with it.
        """
        live = self._lives.get(ref) or self._by_name(ref)
        if live is not None:
            return live
        index = bisect.bisect_left(self._ids, ref)
        if not ref or index == len(self._ids) or not self._ids[index].startswith(ref):
            raise NotFound(f"No such container: {ref}", hint="`pannier ps -a` lists the containers")
        if index + 1 < len(self._ids) and self._ids[index + 1].startswith(ref):
            raise InvalidRequest(
                f"multiple IDs found with provided prefix: {ref}", hint="give more of the id"
            )
        return self._lives[self._ids[index]]

    def get(self, id: str) -> Live | None:
        """Return the container with exactly this id, if it is known."""
        return self._lives.get(id)

    def _by_name(self, ref: str) -> Live | None:
        return self._lives.get(self._names.get(ref.removeprefix("/"), ""))

    def reserve(self, name: str, id: str) -> str:
        """Take a name (any, where it is empty) for a container; return it without its slash.

        :raises InvalidRequest: it is no valid name.
        :raises Conflict: it is taken.
        """
        if not name:
            name = names.generate(lambda item: item in self._names)
        name = name.removeprefix("/")
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        owner = self._names.get(name)
        if owner is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{owner}". You have to remove (or rename) that container to be able to reuse '
                f"that name."
            )
        self._names[name] = id
        return name

    def release(self, name: str) -> None:
        """Give a name back."""
        self._names.pop(name, None)

    def add(self, live: Live) -> None:
        """Make a container known; its name was reserved."""
        container = live.container
        self._names[container.name] = container.id
        self._lives[container.id] = live
        bisect.insort(self._ids, container.id)
        if not container.state.running:
            live.stopped.set()

    def remove(self, live: Live) -> None:
        """Forget a container and its name. Idempotent."""
        container = live.container
        if self._lives.pop(container.id, None) is None:
            return
        if self._names.get(container.name) == container.id:
            del self._names[container.name]
        index = bisect.bisect_left(self._ids, container.id)
        del self._ids[index]

    def keep_trace(self, id: str, steps: list[tuple[str, Timing]]) -> None:
        """Keep the steps of a traced start; the oldest of many make room."""
        self._traces.pop(id, None)
        self._traces[id] = steps
        while len(self._traces) > _TRACES:
            del self._traces[next(iter(self._traces))]

    def trace(self, ref: str) -> list[tuple[str, Timing]]:
        """Return the steps of a container's last traced start: by its id also after its removal.

        :raises NotFound: none is meant by *ref*.
        """
        kept = self._traces.get(ref)
        return self._traces.get(self.find(ref).container.id, []) if kept is None else kept

    def containers(self) -> list[Container]:
        """Return every container, newest first."""
        found = [live.container for live in self._lives.values()]
        found.sort(key=lambda container: container.created, reverse=True)
        return found
