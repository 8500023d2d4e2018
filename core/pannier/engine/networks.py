"""Networks: the predefined ones, and those that users make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pannier.drivers.network import Subnet
    from pannier.engine.model import Container, EndpointOptions, Network
    from pannier.engine.results import NetworkPruneResult

__all__ = ["Networks"]


class Networks:
    """Creates, removes and knows networks; *ref* is a name, an id or a prefix of one."""

    def list(self, filters: Mapping[str, tuple[str, ...]]) -> list[Network]:
        raise NotImplementedError

    def get(self, ref: str) -> Network:
        raise NotImplementedError

    def containers_of(self, network: Network) -> list[Container]:
        raise NotImplementedError

    async def create(
        self,
        name: str,
        *,
        driver: str = "",
        internal: bool = False,
        ipv6: bool = False,
        attachable: bool = False,
        subnets: Sequence[Subnet] = (),
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        raise NotImplementedError

    async def remove(self, ref: str) -> None:
        raise NotImplementedError

    async def connect(self, ref: str, container: str, options: EndpointOptions) -> None:
        raise NotImplementedError

    async def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        raise NotImplementedError

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> NetworkPruneResult:
        raise NotImplementedError
