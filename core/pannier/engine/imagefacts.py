"""What the engine needs to know of an image to make a container from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pannier.engine.model import ContainerConfig

__all__ = ["ImageFacts", "ImageSource"]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image, as a container is made from it.

    :param id: ``sha256:…``; empty for a rootfs.
    :param parent: the chain id of the top layer; None for an image without layers.
    :param platform: ``linux/amd64``.
    """

    id: str
    parent: str | None
    config: ContainerConfig
    platform: str = "linux"


class ImageSource(Protocol):
    """Where images are looked up; blocking, called on a worker thread."""

    def hold(
        self, ref: str, platform: str = "", storage: str = ""
    ) -> AbstractContextManager[ImageFacts]:
        """Give an image whose layers stay while the block runs.

        :param storage: the id of the storage driver to have the layers in; empty for the default.
        :raises NotFound: there is none of that name or id.
        """
