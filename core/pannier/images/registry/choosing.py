"""From a name to the manifest of one image: indexes, platforms, attestations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid, NotFound
from pannier.images import oci
from pannier.images.digest import digest_of

if TYPE_CHECKING:
    from pannier.images.reference import Reference
    from pannier.images.registry.client import Repository

__all__ = ["Chosen", "Described", "choose", "describe"]

_DEPTH = 4
_ATTACHMENT = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The manifest of one image.

    :param digest: of the manifest or index that the name itself led to.
    """

    digest: str
    manifest: oci.Manifest


@dataclass(frozen=True, slots=True)
class Described:
    """What a name leads to, and which platforms there are."""

    descriptor: oci.Descriptor
    platforms: tuple[oci.Platform, ...]


def choose(repository: Repository, reference: Reference, platform: oci.Platform | None) -> Chosen:
    """Follow a name, through indexes, to the manifest for a platform.

    :param platform: None for this host's.
    :raises NotFound: there is no such name, or nothing for the platform.
    :raises UnsupportedOperation: what is there is no image, or of Docker's schema 1.
    """
    raw, media_type = repository.manifest(reference.digest or reference.tag or "")
    digest = reference.digest or digest_of(raw)
    document = oci.parse_document(raw, media_type, reference.familiar)
    wanted = platform or oci.Platform.native()
    for _ in range(_DEPTH):
        if isinstance(document, oci.Manifest):
            return Chosen(digest, document)
        entry = _fitting(document, wanted)
        raw, media_type = repository.manifest(entry.digest)
        if len(raw) != entry.size:
            raise ImageInvalid(
                f"the manifest {entry.digest} has {len(raw)} bytes, "
                f"but the index that names it says {entry.size}"
            )
        document = oci.parse_document(raw, media_type or entry.media_type, entry.digest)
    raise ImageInvalid("the image's index leads to further indexes without end")


def _fitting(index: oci.Index, wanted: oci.Platform) -> oci.Descriptor:
    images = [entry for entry in index.manifests if _ATTACHMENT not in entry.annotations]
    named = [entry for entry in images if entry.platform is not None]
    fitting = [entry for entry in named if entry.platform and entry.platform.matches(wanted)]
    # Exactly what is asked for comes before what runs as well.
    fitting.sort(key=lambda entry: entry.platform != wanted)
    # An entry may leave its platform out (OCI image-index.md); a nested index often does.
    fitting += [entry for entry in images if entry.platform is None]
    if fitting:
        return fitting[0]
    offered = sorted({str(entry.platform) for entry in named} - {"unknown/unknown"})
    raise NotFound(
        f"no matching manifest for {wanted} in the manifest list entries",
        hint=f"offered: {', '.join(offered) or 'nothing'}; choose one with --platform",
    )


def describe(repository: Repository, reference: Reference, size_limit: int = 8 << 20) -> Described:
    """Tell what a name leads to, without fetching the image.

    :raises NotFound: there is no such name.
    """
    raw, media_type = repository.manifest(reference.digest or reference.tag or "")
    document = oci.parse_document(raw, media_type, reference.familiar)
    pointer = oci.Descriptor(document.media_type, reference.digest or digest_of(raw), len(raw))
    if isinstance(document, oci.Index):
        found = [entry.platform for entry in document.manifests if entry.platform is not None]
        return Described(pointer, tuple(one for one in found if one.os != "unknown"))
    from pannier.images.config import ImageConfig  # noqa: PLC0415 - only here

    if document.config.size > size_limit:
        raise ImageInvalid(f"the image's configuration is larger than {size_limit >> 20} MiB")
    with repository.blob(document.config.digest) as stream:
        data = b""
        while len(data) <= document.config.size:
            piece = stream.read(document.config.size + 1 - len(data))
            if not piece:
                break
            data += piece
    config = ImageConfig.parse(data, document.config.digest)
    return Described(pointer, (config.platform,))
