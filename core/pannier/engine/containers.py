"""The containers of this engine, as the server sees them: one service in front of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from pannier.drivers.operations import Timing
    from pannier.drivers.resources import Limits
    from pannier.drivers.storage import Change
    from pannier.engine.model import (
        AttachOptions,
        Container,
        ContainerConfig,
        CreateOptions,
        LogOptions,
        RestartPolicy,
    )
    from pannier.engine.results import (
        ContainerQuery,
        CreateResult,
        LogLine,
        PathStat,
        PlannedStep,
        PruneResult,
        Statistics,
        TopResult,
        WaitCondition,
        WaitResult,
    )

__all__ = ["Containers"]


class Containers:
    """Creates, runs and removes containers.

    *ref* is a name, a full id or an unambiguous prefix of one; all methods raise NotFound for one
    that is not known.
    """

    # Skeleton for those who code against it; the bodies follow at once.

    async def create(self, options: CreateOptions) -> CreateResult:
        raise NotImplementedError

    def get(self, ref: str) -> Container:
        raise NotImplementedError

    def list(self, query: ContainerQuery) -> list[Container]:
        raise NotImplementedError

    async def sizes(self, ref: str) -> tuple[int, int]:
        raise NotImplementedError

    async def start(self, ref: str, *, trace: bool = False) -> None:
        raise NotImplementedError

    async def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        raise NotImplementedError

    async def restart(
        self, ref: str, timeout: int | None = None, signal: str | None = None
    ) -> None:
        raise NotImplementedError

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        raise NotImplementedError

    async def pause(self, ref: str) -> None:
        raise NotImplementedError

    async def unpause(self, ref: str) -> None:
        raise NotImplementedError

    async def rename(self, ref: str, name: str) -> None:
        raise NotImplementedError

    async def update(
        self, ref: str, limits: Limits, restart: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        raise NotImplementedError

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        raise NotImplementedError

    def wait(self, ref: str, condition: WaitCondition) -> asyncio.Future[WaitResult]:
        """Register a wait at once, and return what to await."""
        raise NotImplementedError

    async def top(self, ref: str, ps_args: str = "") -> TopResult:
        raise NotImplementedError

    async def statistics(self, ref: str) -> Statistics:
        raise NotImplementedError

    async def changes(self, ref: str) -> list[Change]:
        raise NotImplementedError

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        raise NotImplementedError

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        raise NotImplementedError

    async def archive_put(
        self,
        ref: str,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        raise NotImplementedError

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        raise NotImplementedError

    async def attach(
        self, ref: str, options: AttachOptions, socket_fd: int, pending: bytes = b""
    ) -> None:
        raise NotImplementedError

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogLine]:
        """NotFound is raised here, before the first line is asked for."""
        raise NotImplementedError

    def framed_logs(self, ref: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Big chunks, framed as attach does; raw for a container with a terminal."""
        raise NotImplementedError

    async def prune(self, filters: dict[str, tuple[str, ...]]) -> PruneResult:
        raise NotImplementedError

    async def explain(self, options: CreateOptions) -> list[PlannedStep]:
        raise NotImplementedError

    def trace(self, ref: str) -> list[tuple[str, Timing]]:
        raise NotImplementedError

    async def commit(
        self,
        ref: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        message: str = "",
        changes: tuple[str, ...] = (),
        pause: bool = True,
        config: ContainerConfig | None = None,
    ) -> str:
        raise NotImplementedError
