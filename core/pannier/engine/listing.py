"""Which containers a list shows: the filters of ``docker ps``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.engine.filters import label_matches, patterns, refuse_unknown, truth
from pannier.engine.healthstate import HealthStatus
from pannier.engine.model import Status
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pannier.engine.model import Container
    from pannier.engine.registry import Registry
    from pannier.engine.results import ContainerQuery

__all__ = ["select"]

_KNOWN = {
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
}


def select(
    query: ContainerQuery, registry: Registry, image_id: Callable[[str], str | None]
) -> list[Container]:
    """Return the containers that a query asks for, newest first.

    :param image_id: gives the id of the image that a name means.
    :raises InvalidRequest: a filter or value is not known.
    """
    filters = query.filters
    refuse_unknown(filters, _KNOWN)
    before = [registry.find(ref).container.created for ref in filters.get("before", ())]
    since = [registry.find(ref).container.created for ref in filters.get("since", ())]
    everything = (
        query.all
        or query.limit > 0
        or bool(filters.keys() & {"status", "exited", "before", "since"})
    )
    ancestors = {name: image_id(name) for name in filters.get("ancestor", ())}
    named = patterns(filters, "name")
    found = []
    for container in registry.containers():
        # A container's name is Docker's with a slash before it: patterns may say so or not.
        if not named(f"/{container.name}") and not named(container.name):
            continue
        if not everything and not (
            container.state.running or container.state.status is Status.RESTARTING
        ):
            continue
        if any(container.created >= limit for limit in before):
            continue
        if any(container.created <= limit for limit in since):
            continue
        if _passes(container, filters, ancestors):
            found.append(container)
    return found[: query.limit] if query.limit > 0 else found


def _passes(
    container: Container,
    filters: Mapping[str, tuple[str, ...]],
    ancestors: Mapping[str, str | None],
) -> bool:
    for name, values in filters.items():
        if not values or name in {"before", "since", "label", "ancestor", "name"}:
            continue
        if not any(_matches(container, name, value) for value in values):
            return False
    if ancestors and not any(
        container.image_name == name or (id is not None and container.image_id == id)
        for name, id in ancestors.items()
    ):
        return False
    return label_matches(container.config.labels, {"label": filters.get("label", ())})


def _matches(container: Container, name: str, value: str) -> bool:
    return _TESTS[name](container, value)


def _by_status(container: Container, value: str) -> bool:
    if value not in {status.value for status in Status}:
        raise InvalidRequest(f"invalid filter 'status={value}'")
    return container.state.status == value


def _by_exit_code(container: Container, value: str) -> bool:
    if not value.lstrip("-").isdecimal():
        raise InvalidRequest(f"invalid filter 'exited={value}'")
    return container.state.status is Status.EXITED and container.state.exit_code == int(value)


def _by_health(container: Container, value: str) -> bool:
    if value not in {"none", *HealthStatus}:
        raise InvalidRequest(f"Unrecognised filter value for health: {value}")
    health = container.state.health
    return value == ("none" if health is None else health.status.value)


def _by_volume(container: Container, value: str) -> bool:
    return any(
        value in (point.name, point.source, point.spec.destination) for point in container.mounts
    )


def _by_network(container: Container, value: str) -> bool:
    return value in container.networks or any(
        endpoint.network.startswith(value) for endpoint in container.endpoints.values()
    )


def _by_published(container: Container, value: str) -> bool:
    wanted = _ports(value)
    return any(
        port.container_port in wanted[0] and port.protocol == wanted[1]
        for port in container.host.ports
    ) or any(
        port.host_port in wanted[0] and port.protocol == wanted[1]
        for endpoint in container.endpoints.values()
        for port in endpoint.ports
    )


def _by_exposed(container: Container, value: str) -> bool:
    numbers, protocol = _ports(value)
    return any(f"{number}/{protocol}" in container.config.exposed_ports for number in numbers)


def _ports(value: str) -> tuple[range, str]:
    ports, _, protocol = value.partition("/")
    first, _, last = ports.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        raise InvalidRequest(f"invalid port in filter: {value}")
    return range(int(first), int(last or first) + 1), protocol or "tcp"


_TESTS: dict[str, Callable[[Container, str], bool]] = {
    "id": lambda container, value: container.id.startswith(value),
    "status": _by_status,
    "exited": _by_exit_code,
    "volume": _by_volume,
    "network": _by_network,
    "publish": _by_published,
    "expose": _by_exposed,
    "health": _by_health,
    "is-task": lambda _, value: not truth(value, "is-task"),
    "isolation": lambda _, value: value in ("", "default"),
}
