"""Links of the default network: another container's address in /etc/hosts and in the environment.

On networks that users made the embedded DNS takes their place. A link gives the other container one
more name, that of its owner with the alias: ``/web/db``.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.engine.hostfiles import Link
from pannier.errors import Conflict, NotFound, PannierError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.engine.model import Container
    from pannier.engine.registry import Registry

__all__ = ["names", "resolve", "shown", "there", "without"]

_DEFAULT_MODES = {"", "default", "bridge"}


def resolve(container: Container, registry: Registry) -> Iterator[Link]:
    """Yield what a container's links lead to.

    :raises NotFound: a container is not there.
    :raises Conflict: it does not run.
    """
    for entry in container.host.links:
        ref, alias = _split(entry)
        try:
            other = registry.find(ref).container
        except NotFound as error:
            raise NotFound(f"could not get container for {ref}: {error}") from None
        alias = alias or other.name
        if not other.state.running:
            raise Conflict(
                f"Cannot link to a non running container: /{other.name} AS "
                f"/{container.name}/{alias}"
            )
        yield _link(container, alias, other)


def there(container: Container, registry: Registry, *, named: bool) -> tuple[Link, ...]:
    """Return what the links of a container that runs lead to now: some may have ended meanwhile.

    :param named: whether the embedded DNS knows them; then there are none.
    """
    found = []
    for entry in () if named else container.host.links:
        ref, alias = _split(entry)
        with contextlib.suppress(NotFound):
            other = registry.find(ref).container
            if other.state.running:
                found.append(_link(container, alias or other.name, other))
    return tuple(found)


def _link(container: Container, alias: str, other: Container) -> Link:
    address = next((item.address for item in other.endpoints.values() if item.address), "")
    names = tuple(dict.fromkeys((alias, other.id[:12], other.name)))
    return Link(address, names, tuple(_environment(container, alias, other, address)))


def names(registry: Registry) -> dict[str, tuple[str, ...]]:
    """Return the names that containers have by links to them, by id: ``{id: ("/web/db",)}``."""
    found: dict[str, tuple[str, ...]] = {}
    for live in registry:
        for other, name in _targets(live.container, registry):
            found[other.id] = (*found.get(other.id, ()), name)
    return found


def shown(container: Container, registry: Registry) -> list[str]:
    """Return a container's links as ``inspect`` shows them: ``/db:/web/alias``."""
    return [f"/{other.name}:{name}" for other, name in _targets(container, registry)]


def _targets(container: Container, registry: Registry) -> Iterator[tuple[Container, str]]:
    """Yield the containers that one's links lead to, and the names that they have by these."""
    if container.host.network_mode not in _DEFAULT_MODES:
        return
    for entry in container.host.links:
        ref, alias = _split(entry)
        try:
            other = registry.find(ref).container
        except PannierError:
            continue  # it was removed, and its name with it
        yield other, f"/{container.name}/{alias or other.name}"


def without(container: Container, alias: str) -> Container:
    """Return a container without the link of this alias.

    :raises NotFound: there is none.
    """
    links = tuple(
        entry for entry in container.host.links if alias != (_split(entry)[1] or _split(entry)[0])
    )
    if links == container.host.links:
        raise NotFound(f"No such link: /{container.name}/{alias}")
    return replace(container, host=replace(container.host, links=links))


def _split(entry: str) -> tuple[str, str]:
    ref, _, alias = entry.partition(":")
    return ref.lstrip("/"), alias.rpartition("/")[2]


def _environment(container: Container, alias: str, other: Container, address: str) -> Iterator[str]:
    """Yield the variables that Docker documents for a link (docs: legacy container links)."""
    prefix = alias.replace("-", "_").upper()
    yield f"{prefix}_NAME=/{container.name}/{alias}"
    ports = sorted((_port(entry) for entry in other.config.exposed_ports), key=_order)
    for index, (number, protocol) in enumerate(ports):
        url = f"{protocol}://{address}:{number}"
        if not index:
            yield f"{prefix}_PORT={url}"
        name = f"{prefix}_PORT_{number}_{protocol.upper()}"
        yield from (
            f"{name}={url}",
            f"{name}_ADDR={address}",
            f"{name}_PORT={number}",
            f"{name}_PROTO={protocol}",
        )
    for variable in other.config.env:
        if not variable.startswith(("HOME=", "PATH=")):
            yield f"{prefix}_ENV_{variable}"


def _port(entry: str) -> tuple[int, str]:
    number, _, protocol = entry.partition("/")
    return int(number), protocol or "tcp"


def _order(port: tuple[int, str]) -> tuple[bool, int]:
    return port[1] != "tcp", port[0]
