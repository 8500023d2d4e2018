"""Manifests and indexes, of OCI (image specification 1.1) and of Docker (schema 2).

What was read is kept as the bytes that came, because a digest names those bytes; the classes here
are views of them. Reading is strict about what Pannier uses and indifferent to the rest.
"""

from __future__ import annotations

import platform as host
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pannier.errors import ImageInvalid, InvalidRequest, UnsupportedOperation
from pannier.images.digest import digest_of, is_digest
from pannier.images.jsonutil import Node, dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DOCKER_CONFIG",
    "DOCKER_INDEX",
    "DOCKER_LAYER",
    "DOCKER_MANIFEST",
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_MANIFEST",
    "Descriptor",
    "Index",
    "Manifest",
    "Platform",
    "parse_document",
]

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"

_MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
}
# Those of Linux that are found in image indexes, by Go's names (OCI image-index.md).
_KNOWN_ARCHITECTURES = {
    *_ARCHITECTURES,
    *_ARCHITECTURES.values(),
    *("loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x"),
}
_VARIANTS = {"armv7l": "v7", "armv6l": "v6"}
# Variants that mean the same as none (OCI image-index.md, "Platform Variants").
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: ``linux/arm64/v8``."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse what follows ``--platform``; a lone word is an architecture or ``linux``.

        :raises InvalidRequest: there are more than three parts, or an empty one, or a lone word is
            neither, which is told in Docker's words.
        """
        parts = text.lower().split("/")
        if len(parts) > 3 or not all(parts):
            raise InvalidRequest(
                f"invalid platform {text!r}", hint="write os/architecture, such as linux/arm64"
            )
        if len(parts) == 1:
            if parts[0] == "linux":
                return cls("linux", cls.native().architecture)
            if parts[0] not in _KNOWN_ARCHITECTURES:
                raise InvalidRequest(
                    f'"{text}": unknown operating system or architecture: invalid argument',
                    hint="write os/architecture, such as linux/arm64",
                )
            parts.insert(0, "linux")
        parts[1] = _ARCHITECTURES.get(parts[1], parts[1])
        return cls(*parts)

    @classmethod
    def native(cls) -> Platform:
        """Return the platform of this host."""
        machine = host.machine()
        return cls("linux", _ARCHITECTURES.get(machine, machine), _VARIANTS.get(machine, ""))

    def matches(self, wanted: Platform) -> bool:
        """Whether an image for this platform is one for *wanted*."""
        default = _DEFAULT_VARIANTS.get(self.architecture, "")
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and (
            not wanted.variant or (self.variant or default) == wanted.variant
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content (OCI image specification, descriptor.md).

    :param size: bytes.
    """

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    @classmethod
    def parse(cls, node: Node) -> Descriptor:
        """Read a descriptor.

        :raises ImageInvalid: no digest, or a negative size.
        """
        digest = node.text("digest")
        if not is_digest(digest):
            node.fail("digest", "a digest such as sha256:…")
        size = node.integer("size")
        if size < 0:
            node.fail("size", "a number of bytes")
        where = node.node("platform")
        platform = None
        if where is not None:
            platform = Platform(where.text("os"), where.text("architecture"), where.text("variant"))
        return cls(
            media_type=node.text("mediaType"),
            digest=digest,
            size=size,
            urls=node.texts("urls") or (),
            annotations=node.mapping("annotations"),
            platform=platform,
        )

    def document(self) -> dict[str, object]:
        """Return the descriptor as JSON."""
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            platform = {"os": self.platform.os, "architecture": self.platform.architecture}
            if self.platform.variant:
                platform["variant"] = self.platform.variant
            document["platform"] = platform
        return document


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform: its configuration and its layers, bottom first.

    :param raw: the manifest's own bytes.
    """

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> str:
        """The digest of the manifest's bytes."""
        return digest_of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """A pointer to this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @classmethod
    def make(
        cls, config: Descriptor, layers: Sequence[Descriptor], media_type: str = OCI_MANIFEST
    ) -> Manifest:
        """Make a manifest; the same parts give the same bytes."""
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.document(),
            "layers": [layer.document() for layer in layers],
        }
        return cls(dump(document), media_type, config, tuple(layers))

    def in_other_words(self) -> Manifest:
        """Return the same image as Docker's schema 2 if this is OCI's, and as OCI's if it is not.

        Schema 2 has no annotations, and knows layers that are plain or gzip alone.
        """
        docker = self.media_type != DOCKER_MANIFEST
        old, new = (OCI_LAYER, DOCKER_LAYER) if docker else (DOCKER_LAYER, OCI_LAYER)
        signs = str.maketrans("+", ".") if docker else str.maketrans(".", "+")
        layers = [
            Descriptor(
                new + layer.media_type.removeprefix(old).translate(signs), layer.digest, layer.size
            )
            for layer in self.layers
        ]
        config = Descriptor(
            DOCKER_CONFIG if docker else OCI_CONFIG, self.config.digest, self.config.size
        )
        return Manifest.make(config, layers, DOCKER_MANIFEST if docker else OCI_MANIFEST)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests, one for each platform (or, in an image layout, each image)."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_document(raw: bytes, media_type: str = "", where: str = "manifest") -> Manifest | Index:
    """Read a manifest or an index.

    :param media_type: what the pointer to the document, or the registry, says it is.
    :raises ImageInvalid: it breaks its format, or could be read as two things
        (CVE-2021-41190).
    :raises UnsupportedOperation: it is of Docker's schema 1, or not an image.
    """
    node = Node.parse(raw, where)
    own_type = node.text("mediaType")
    declared = media_type or own_type
    if declared.startswith(_SCHEMA_1) or node.integer("schemaVersion") == 1:
        raise UnsupportedOperation(
            f"{where} is of Docker's manifest schema 1, which carries no verifiable configuration",
            hint="pull and push the image again with a current engine; it writes schema 2",
        )
    if node.integer("schemaVersion") != 2:
        node.fail("schemaVersion", "2")
    if own_type and media_type and own_type != media_type:
        raise ImageInvalid(f"{where} says that it is {own_type}, but is served as {media_type}")
    is_index = "manifests" in node.fields
    if is_index and not node.fields.keys().isdisjoint({"layers", "config", "fsLayers"}):
        raise ImageInvalid(f"{where} is ambiguous: it is both an index and an image manifest")
    if declared and declared not in (_INDEXES if is_index else _MANIFESTS):
        raise ImageInvalid(f"{where} has the unexpected media type {declared[:200]!r}")
    if is_index:
        manifests = tuple(Descriptor.parse(entry) for entry in node.nodes("manifests"))
        return Index(raw, declared or OCI_INDEX, manifests)
    return _manifest(node, raw, declared or OCI_MANIFEST)


def _manifest(node: Node, raw: bytes, media_type: str) -> Manifest:
    config_node = node.node("config")
    if config_node is None:
        node.fail("config", "present")
    config = Descriptor.parse(config_node)
    if config.media_type not in _CONFIGS:
        raise UnsupportedOperation(
            f"{node.where} is no container image: its configuration is {config.media_type[:200]!r}",
            hint="an artifact (a chart, a signature, …) cannot be run",
        )
    layers = tuple(Descriptor.parse(entry) for entry in node.nodes("layers"))
    return Manifest(raw, media_type, config, layers)
