"""Events about images, and about containers and their networks, with Docker's attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.engine.results import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.engine.events import Events
    from pannier.engine.model import Container, Network

__all__ = ["Teller", "tell_of_image"]


def tell_of_image(
    events: Events, action: str, actor: str, name: str, labels: Mapping[str, str] | None
) -> None:
    """Say that something happened to an image; its labels are told, too.

    :param actor: its id, or the name by which a registry knows it.
    :param labels: None for those of an image that has gone, as with Docker.
    """
    events.publish(Event("image", action, actor, {**(labels or {}), "name": name}))


class Teller:
    """Publishes events about containers."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def container(self, container: Container, action: str, **more: str) -> None:
        """Say that something happened to a container."""
        attributes = {
            **container.config.labels,
            **more,
            "image": container.image_name,
            "name": container.name,
        }
        self._events.publish(Event("container", action, container.id, attributes))

    def network(self, container: Container, network: Network, action: str) -> None:
        """Say that a container was connected to, or disconnected from, a network."""
        attributes = {
            "container": container.id,
            "name": network.name,
            "type": network.driver,
        }
        self._events.publish(Event("network", action, network.id, attributes))

    def volumes(self, container: Container, action: str) -> None:
        """Say that a container's volumes were mounted for it, or are not any more."""
        for point in container.mounts:
            if not point.name:
                continue
            attributes = {"container": container.id, "driver": point.driver}
            if action == "mount":
                attributes |= {
                    "destination": point.spec.destination,
                    "propagation": point.spec.propagation,
                    "read/write": "false" if point.spec.read_only else "true",
                }
            self._events.publish(Event("volume", action, point.name, attributes))
