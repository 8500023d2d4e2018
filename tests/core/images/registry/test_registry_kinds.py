"""Registries that take one kind of manifest alone: OCI's, or Docker's schema 2."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from pannier.images import oci
from pannier.images.oci import Descriptor, Manifest
from pannier.images.registry.refusals import RegistryError
from support.images import digest, docker_archive, image
from support.registry import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import BuiltImage
    from support.registry import FaultyRegistry
    from support.registry_rig import Rig

DOCKER = "application/vnd.docker.distribution."
OCI = "application/vnd.oci.image."


def pushed(registry: FaultyRegistry, tag: str = "1") -> Any:
    """Return the manifest that a push left in ``t/x``."""
    raw, kind = registry.manifests["t/x", tag]
    document = json.loads(raw)
    assert document["mediaType"] == kind
    return document


@pytest.mark.parametrize("status", [400, 405, 406, 415])
def test_an_old_one_gets_schema_2(
    registry: FaultyRegistry, rig: Rig, small: BuiltImage, make_rig: Callable[..., Rig], status: int
) -> None:
    """With Docker's types throughout; the image has that manifest's digest, and comes back."""
    name = f"{registry.host}/t/x:1"
    list(rig.store.load(io.BytesIO(docker_archive([image(small.layers, tags=[name])]))))
    registry.faults = Faults(kinds=DOCKER, refusal=status)
    answer = rig.push(name)
    found = pushed(registry)
    assert found["mediaType"] == oci.DOCKER_MANIFEST
    assert found["config"]["mediaType"] == oci.DOCKER_CONFIG
    assert [one["mediaType"] for one in found["layers"]] == [f"{oci.DOCKER_LAYER}.gzip"] * 2
    assert answer.digest == digest(registry.manifests["t/x", "1"][0])
    assert rig.store.get(name).digests == (f"{registry.host}/t/x@{answer.digest}",)
    assert rig.statuses().count("Pushed") == 2
    assert make_rig("other").pull(name).image.id == small.id


def test_schema_2_has_no_zstd(registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
    """Such layers go as gzip then."""
    zstandard = pytest.importorskip(
        "backports.zstd", reason="needs backports.zstd: pip install 'pannier[zstd]'"
    )
    registry.put(small, compress=zstandard.compress, suffix="+zstd")
    rig.pull(f"{registry.host}/a/b:1")
    name = f"{registry.host}/t/x:1"
    rig.store.tag(f"{registry.host}/a/b:1", name)
    registry.faults = Faults(kinds=DOCKER)
    rig.push(name)
    found = pushed(registry)
    for described, plain in zip(found["layers"], small.layers, strict=True):
        assert described["mediaType"] == f"{oci.DOCKER_LAYER}.gzip"
        assert gzip.decompress(registry.blobs[described["digest"]]) == plain
        assert described["size"] == len(registry.blobs[described["digest"]])


def test_one_that_knows_oci_alone_gets_it(
    registry: FaultyRegistry, rig: Rig, small: BuiltImage
) -> None:
    """Of an image that came as schema 2."""
    registry.put(small)
    document = json.loads(registry.manifests["a/b", "1"][0])
    document["mediaType"] = oci.DOCKER_MANIFEST
    document["config"]["mediaType"] = oci.DOCKER_CONFIG
    for one in document["layers"]:
        one["mediaType"] = f"{oci.DOCKER_LAYER}.gzip"
    registry.put_manifest(document)
    rig.pull(f"{registry.host}/a/b:1")
    name = f"{registry.host}/t/x:1"
    rig.store.tag(f"{registry.host}/a/b:1", name)
    registry.faults = Faults(kinds=OCI)
    rig.push(name)
    found = pushed(registry)
    assert found["config"]["mediaType"] == oci.OCI_CONFIG
    assert [one["mediaType"] for one in found["layers"]] == [f"{oci.OCI_LAYER}+gzip"] * 2


def test_one_that_takes_neither_is_quoted(
    registry: FaultyRegistry, rig: Rig, small: BuiltImage
) -> None:
    """With its first answer; the image gets no name."""
    name = f"{registry.host}/t/x:1"
    list(rig.store.load(io.BytesIO(docker_archive([image(small.layers, tags=[name])]))))
    registry.faults = Faults(kinds="none/")
    with pytest.raises(RegistryError, match="400 to PUT t/x/manifests/1: manifest invalid"):
        rig.push(name)
    assert len(registry.lines("PUT .*/manifests/")) == 2
    assert rig.store.get(name).digests == ()


def test_other_refusals_are_final(registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
    """What is not about the kind is not tried with another."""
    name = f"{registry.host}/t/x:1"
    list(rig.store.load(io.BytesIO(docker_archive([image(small.layers, tags=[name])]))))
    registry.faults = Faults(kinds="none/", refusal=413)
    with pytest.raises(RegistryError, match="413"):
        rig.push(name)
    assert len(registry.lines("PUT .*/manifests/")) == 1


def test_there_and_back_is_the_same() -> None:
    """But for annotations, which schema 2 has not."""
    blob = Descriptor(f"{oci.OCI_LAYER}+gzip", digest(b"layer"), 5, annotations={"a": "b"})
    plain = Descriptor(oci.OCI_LAYER, digest(b"plain"), 5)
    config = Descriptor(oci.OCI_CONFIG, digest(b"config"), 6)
    there = Manifest.make(config, [blob, plain]).in_other_words()
    assert [layer.media_type for layer in there.layers] == [
        *(f"{oci.DOCKER_LAYER}.gzip", oci.DOCKER_LAYER),
    ]
    back = there.in_other_words()
    assert back.raw == Manifest.make(config, [Descriptor(blob.media_type, *_of(blob)), plain]).raw


def _of(blob: Descriptor) -> tuple[str, int]:
    return blob.digest, blob.size
