"""The image configuration: what a container made from the image runs, and how.

OCI image specification, config.md, with Docker's additions (Healthcheck, Shell, OnBuild). The
bytes that were read are kept, since the image's id is their digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid
from pannier.images.digest import EMPTY_DIFF_ID, chain_ids, digest_of, is_digest
from pannier.images.jsonutil import Node, dump
from pannier.images.oci import Platform
from pannier.images.timestamps import ZERO, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Healthcheck", "HistoryEntry", "ImageConfig", "RunConfig", "make_config"]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How to ask whether a container is healthy; times in nanoseconds, 0 for the default.

    :param test: ``("NONE",)``, ``("CMD", argument, …)`` or ``("CMD-SHELL", command)``; empty
        inherits.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    @classmethod
    def parse(cls, node: Node) -> Healthcheck:
        """Read the object."""
        return cls(
            test=node.texts("Test") or (),
            interval=node.integer("Interval"),
            timeout=node.integer("Timeout"),
            start_period=node.integer("StartPeriod"),
            start_interval=node.integer("StartInterval"),
            retries=node.integer("Retries"),
        )

    def document(self) -> dict[str, object]:
        """Return the object as JSON, without what is unset."""
        fields: dict[str, object] = {
            "Test": list(self.test),
            "Interval": self.interval,
            "Timeout": self.timeout,
            "StartPeriod": self.start_period,
            "StartInterval": self.start_interval,
            "Retries": self.retries,
        }
        return {key: value for key, value in fields.items() if value}


_RUN_FIELDS = frozenset(
    {
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "ExposedPorts",
        "Volumes",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Healthcheck",
        "Shell",
        "OnBuild",
    }
)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The ``config`` object: the defaults of a container made from the image.

    :param cmd: None where there is none, which is not the same as an empty one.
    :param exposed_ports: ``80/tcp``, in the order given.
    :param stop_timeout: seconds; None for the engine's default.
    :param extra: fields that Pannier does not use, as JSON values, kept for re-writing.
    """

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, node: Node) -> RunConfig:
        """Read the object.

        :raises ImageInvalid: a field has the wrong type.
        """
        health = node.node("Healthcheck")
        timeout = node.fields.get("StopTimeout")
        return cls(
            env=node.texts("Env") or (),
            cmd=node.texts("Cmd"),
            entrypoint=node.texts("Entrypoint"),
            working_dir=node.text("WorkingDir"),
            user=node.text("User"),
            exposed_ports=node.keys("ExposedPorts"),
            volumes=node.keys("Volumes"),
            labels=node.mapping("Labels"),
            stop_signal=node.text("StopSignal"),
            stop_timeout=None if timeout is None else node.integer("StopTimeout"),
            healthcheck=None if health is None else Healthcheck.parse(health),
            shell=node.texts("Shell"),
            on_build=node.texts("OnBuild") or (),
            extra=node.rest(_RUN_FIELDS),
        )

    def document(self) -> dict[str, object]:
        """Return the object as JSON, without what is unset."""
        document: dict[str, object] = dict(self.extra)
        texts = {
            "WorkingDir": self.working_dir,
            "User": self.user,
            "StopSignal": self.stop_signal,
        }
        lists = {"Env": self.env or None, "Cmd": self.cmd, "Entrypoint": self.entrypoint}
        lists |= {"Shell": self.shell, "OnBuild": self.on_build or None}
        sets = {"ExposedPorts": self.exposed_ports, "Volumes": self.volumes}
        document.update({key: text for key, text in texts.items() if text})
        document.update({key: list(items) for key, items in lists.items() if items is not None})
        document.update({key: {item: {} for item in items} for key, items in sets.items() if items})
        if self.labels:
            document["Labels"] = dict(self.labels)
        if self.stop_timeout is not None:
            document["StopTimeout"] = self.stop_timeout
        if self.healthcheck is not None:
            document["Healthcheck"] = self.healthcheck.document()
        return document


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of how the image was made.

    :param created: RFC 3339; empty where unknown.
    :param empty_layer: the step made no layer.
    """

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    @classmethod
    def parse(cls, node: Node) -> HistoryEntry:
        """Read the object."""
        return cls(
            created=node.text("created"),
            created_by=node.text("created_by"),
            author=node.text("author"),
            comment=node.text("comment"),
            empty_layer=node.flag("empty_layer"),
        )

    def document(self) -> dict[str, object]:
        """Return the object as JSON, without what is unset."""
        fields: dict[str, object] = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {key: value for key, value in fields.items() if value}

    @property
    def created_ns(self) -> int:
        """When, in nanoseconds since the epoch; Go's zero time where unknown or unreadable."""
        return _moment(self.created)


_ZERO_NS = parse_time(ZERO)


def _moment(text: str) -> int:
    try:
        return parse_time(text) if text else _ZERO_NS
    except ValueError:
        return _ZERO_NS


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A whole image configuration.

    :param raw: the bytes; their digest is the image's id.
    :param created: RFC 3339, as written; empty where unknown.
    :param diff_ids: bottom first.
    """

    raw: bytes = field(repr=False)
    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    config: RunConfig = field(default_factory=RunConfig)
    history: tuple[HistoryEntry, ...] = ()
    diff_ids: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes, where: str = "image configuration") -> ImageConfig:
        """Read a configuration.

        :raises ImageInvalid: it breaks its format.
        """
        node = Node.parse(raw, where)
        config = node.node("config")
        created = node.text("created")
        if created:
            try:
                parse_time(created)
            except ValueError as error:
                raise ImageInvalid(f"{where}: created: {error}") from None
        return cls(
            raw=raw,
            architecture=node.text("architecture"),
            os=node.text("os") or "linux",
            variant=node.text("variant"),
            os_version=node.text("os.version"),
            created=created,
            author=node.text("author"),
            comment=node.text("comment"),
            docker_version=node.text("docker_version"),
            config=RunConfig() if config is None else RunConfig.parse(config),
            history=tuple(HistoryEntry.parse(entry) for entry in node.nodes("history")),
            diff_ids=_diff_ids(node),
        )

    @property
    def id(self) -> str:
        """The image's id."""
        return digest_of(self.raw)

    @property
    def chain_ids(self) -> list[str]:
        """The chain id of each layer, bottom first."""
        return chain_ids(self.diff_ids)

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(self.os, self.architecture, self.variant)

    @property
    def created_ns(self) -> int:
        """When the image was made, in nanoseconds since the epoch; Go's zero time if unknown."""
        return _moment(self.created)


def _diff_ids(node: Node) -> tuple[str, ...]:
    rootfs = node.node("rootfs")
    if rootfs is None:
        node.fail("rootfs", "present")
    kind = rootfs.text("type")
    if kind not in ("layers", ""):
        rootfs.fail("type", '"layers"')
    diff_ids = rootfs.texts("diff_ids") or ()
    for diff_id in diff_ids:
        if not diff_id.startswith("sha256:") or not is_digest(diff_id):
            rootfs.fail("diff_ids", "a list of sha256 digests")
    return diff_ids


def make_config(
    config: RunConfig,
    *,
    platform: Platform,
    created: str,
    diff_ids: Sequence[str],
    history: Sequence[HistoryEntry],
    author: str = "",
    comment: str = "",
) -> ImageConfig:
    """Make a configuration; the same parts give the same bytes, and so the same id."""
    document: dict[str, object] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "created": created,
        "config": config.document(),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [entry.document() for entry in history],
    }
    optional = {"variant": platform.variant, "author": author, "comment": comment}
    document.update({key: value for key, value in optional.items() if value})
    return ImageConfig.parse(dump(document))


def is_empty_layer(diff_id: str) -> bool:
    """Whether a layer changes nothing, so that an image needs no layer for it."""
    return diff_id == EMPTY_DIFF_ID
