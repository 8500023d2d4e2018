"""Further processes in running containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pannier.drivers.runtime import Connection
    from pannier.engine.model import Container, ExecConfig, ExecSession

__all__ = ["Execs"]


class Execs:
    """Creates, starts and knows execs."""

    async def create(self, ref: str, config: ExecConfig) -> str:
        raise NotImplementedError

    def get(self, id: str) -> ExecSession:
        raise NotImplementedError

    def ids_of(self, container: Container) -> list[str]:
        raise NotImplementedError

    async def start(
        self,
        id: str,
        *,
        detach: bool = False,
        connection: Connection | None = None,
        tty: bool | None = None,
        console_size: tuple[int, int] = (0, 0),
    ) -> None:
        raise NotImplementedError

    async def resize(self, id: str, rows: int, columns: int) -> None:
        raise NotImplementedError
