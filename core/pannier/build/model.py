"""What the builder is asked, and what it tells while it works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.errors import PannierError
from pannier.images.registry.transfers import TransferEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.resources import Limits
    from pannier.engine.model import Ulimit
    from pannier.images.oci import Platform
    from pannier.images.reference import Reference
    from pannier.images.registry.auth import Credentials

__all__ = ["BuildFailed", "BuildRequest", "Built", "Event", "Output", "PruneReport"]


class BuildFailed(PannierError):
    """A build's instruction failed.

    :param code: the exit status of the command; 0 where none was run.
    """

    def __init__(self, message: str, *, code: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built, and how.

    :param dockerfile: its path in the context.
    :param dockerfile_text: the Dockerfile itself, where it is not in the context.
    :param remote: a URL to take the context from: Git, an archive, or a single Dockerfile.
    :param names: tags for the result.
    :param build_args: None for an argument without a value, which then counts as not given.
    :param secrets: by id. They are never stored.
    :param credentials: by registry, for images that have to be pulled.
    :param epoch: seconds; no time in the image is later (``SOURCE_DATE_EPOCH``).
    :param keep: leave the containers of successful instructions.
    :param keep_failed: leave the container of a failed one.
    """

    dockerfile: str = "Dockerfile"
    dockerfile_text: bytes | None = None
    remote: str = ""
    names: tuple[Reference, ...] = ()
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: Platform | None = None
    no_cache: bool = False
    pull: bool = False
    cache_from: tuple[str, ...] = ()
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    limits: Limits | None = None
    cgroup_parent: str = ""
    ulimits: tuple[Ulimit, ...] = ()
    security_options: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    credentials: Mapping[str, Credentials] = field(default_factory=dict, repr=False)
    epoch: int | None = None
    keep: bool = False
    keep_failed: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """Text to show: the builder's own, or what a command wrote."""

    text: str


@dataclass(frozen=True, slots=True)
class Built:
    """An image was made; the last one is the build's."""

    id: str


Event = Output | TransferEvent | Built
"""What a build tells; the middle one is of an image that is pulled for it."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune removed: the cache's keys, and the bytes of layers that went with them."""

    removed: tuple[str, ...]
    reclaimed: int
