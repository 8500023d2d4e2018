"""``docker load``: what comes in, in every form, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
from typing import TYPE_CHECKING

import pytest

from pannier.errors import ImageInvalid
from pannier.images.load import LoadedImage, RenamedImage
from pannier.images.oci import Platform
from support.images import (
    BuiltImage,
    Entry,
    busybox_archive,
    busybox_image,
    digest,
    docker_archive,
    image,
    layer,
    legacy_archive,
    oci_archive,
    tar,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.images.images import ImageStore
    from support.storage import MemoryStorage


def load(store: ImageStore, data: bytes) -> list[str]:
    """Load an archive and return what docker would print."""
    events = store.load(io.BytesIO(data))
    return [event.message for event in events if isinstance(event, (LoadedImage, RenamedImage))]


def small(*tags: str, text: str = "hello") -> BuiltImage:
    """Return an image of two layers."""
    return image([layer({"a": text}), layer({"b": None, "b/c": "d"})], tags=tags)


def untouched(store: ImageStore, storage: MemoryStorage) -> bool:
    """Whether nothing is left of a load."""
    files = [path for path in store.content.root.rglob("*") if path.is_file()]
    return (
        not store.list(all=True)
        and not storage.streams
        and [path.name for path in files] == ["oci-layout"]
    )


@pytest.mark.parametrize(
    "archive", [docker_archive, oci_archive, legacy_archive], ids=["docker", "oci", "legacy"]
)
def test_every_form_of_archive_is_loaded(
    store: ImageStore, archive: Callable[[list[BuiltImage]], bytes]
) -> None:
    """The image has its name, its layers and its configuration whatever it came in."""
    built = busybox_image(tags=["busybox:latest"])
    assert load(store, archive([built])) == ["Loaded image: busybox:latest"]
    found = store.get("busybox")
    assert found.tags == ("busybox:latest",)
    assert found.config.config.cmd == ("sh",)
    assert [part.diff_id for part in found.layers] == [digest(data) for data in built.layers]


@pytest.mark.parametrize("archive", [docker_archive, oci_archive], ids=["docker", "oci"])
def test_the_id_is_the_digest_of_the_configuration(
    store: ImageStore, archive: Callable[[list[BuiltImage]], bytes]
) -> None:
    """Docker's ids and ours are the same."""
    built = small("x:1")
    load(store, archive([built]))
    assert store.get("x:1").id == built.id
    assert store.get("x:1").config.raw == built.config


@pytest.mark.parametrize(
    "compress", [gzip.compress, lzma.compress, bz2.compress], ids=["gzip", "xz", "bzip2"]
)
def test_a_compressed_archive_is_loaded(
    store: ImageStore, compress: Callable[[bytes], bytes]
) -> None:
    """As docker does, by the stream's first bytes."""
    assert load(store, compress(docker_archive([small("x:1")]))) == ["Loaded image: x:1"]


def test_a_stream_need_not_be_seekable(store: ImageStore) -> None:
    """A socket or a pipe will do, however small its pieces."""

    class Trickle(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = data

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            piece, self.data = self.data[:7], self.data[7:]
            return piece

    events = list(store.load(Trickle(docker_archive([small("x:1")]))))  # type: ignore[arg-type]
    assert isinstance(events[-1], LoadedImage)


def test_several_images_share_their_layers(store: ImageStore, storage: MemoryStorage) -> None:
    """A layer with the same layers below is unpacked once."""
    base, top = layer({"base": "b"}), layer({"top": "t"})
    images = [image([base], tags=["one:1"]), image([base, top], tags=["two:1", "two:2"])]
    assert load(store, docker_archive(images)) == [
        "Loaded image: one:1",
        "Loaded image: two:1",
        "Loaded image: two:2",
    ]
    assert len(storage.made) == 2
    assert store.get("one:1").layers[0].chain_id == store.get("two:1").layers[0].chain_id


def test_an_image_without_a_name_is_known_by_its_id(store: ImageStore) -> None:
    """Docker prints the id then."""
    built = small()
    assert load(store, docker_archive([built])) == [f"Loaded image ID: {built.id}"]
    assert store.get(built.id[:19]).id == built.id


def test_a_name_that_is_taken_moves(store: ImageStore) -> None:
    """The old image stays, untagged, and docker says so."""
    old, new = small("x:1", text="old"), small("x:1", text="new")
    load(store, docker_archive([old]))
    assert load(store, docker_archive([new])) == [
        f"The image x:1 already exists, renaming the old one with ID {old.id} to empty string",
        "Loaded image: x:1",
    ]
    assert store.get("x:1").id == new.id
    assert store.get(old.id).tags == ()


def test_loading_again_changes_nothing(store: ImageStore, storage: MemoryStorage) -> None:
    """The second load finds all there is, and leaves no second copy."""
    load(store, docker_archive([small("x:1")]))
    blobs = sorted(store.content.digests())
    made = list(storage.made)
    load(store, docker_archive([small("x:1")]))
    assert sorted(store.content.digests()) == blobs
    assert storage.made == made


def test_links_between_members_are_followed(store: ImageStore) -> None:
    """Docker and skopeo write a layer that occurs twice as a symlink."""
    data = layer({"a": "b"})
    built = image([data, data], tags=["x:1"])
    config = built.id.removeprefix("sha256:") + ".json"
    manifest = [{"Config": config, "RepoTags": ["x:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}]
    archive = tar(
        [
            Entry(config, built.config),
            Entry("1/layer.tar", data),
            Entry("2/layer.tar", kind="symlink", target="../1/layer.tar"),
            Entry("manifest.json", json.dumps(manifest).encode()),
        ]
    )
    assert load(store, archive) == ["Loaded image: x:1"]


def test_compressed_layers_are_checked_while_unpacked(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """A layer whose plain bytes are not those of its diff id is refused, and not kept."""
    good = small("x:1")
    load(store, docker_archive([good], compress_layers=True))
    store.remove("x:1", users=tuple)
    wrong = BuiltImage(good.config, (good.layers[0], layer({"evil": "layer"})), good.tags)
    with pytest.raises(ImageInvalid, match="configuration says"):
        load(store, docker_archive([wrong], compress_layers=True))
    assert untouched(store, storage)


def test_plain_layers_are_checked_before_anything_is_unpacked(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """A plain layer's blob must be its diff."""
    good = small("x:1")
    wrong = BuiltImage(good.config, (layer({"evil": "layer"}), good.layers[1]), good.tags)
    with pytest.raises(ImageInvalid, match="configuration says"):
        load(store, docker_archive([wrong]))
    assert not storage.made
    assert untouched(store, storage)


def test_a_blob_that_lies_about_its_digest_is_refused(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """In an image layout the name of a blob is its digest."""
    data = oci_archive([small("x:1")], compress="none").replace(b"hello", b"hullo")
    with pytest.raises(ImageInvalid, match="was expected"):
        load(store, data)
    assert untouched(store, storage)


def test_one_broken_image_keeps_all_others_out(store: ImageStore, storage: MemoryStorage) -> None:
    """An archive is loaded whole or not at all."""
    good, other = small("good:1"), small("bad:1", text="other")
    bad = BuiltImage(other.config, other.layers[:1], other.tags)
    with pytest.raises(ImageInvalid, match="layers length mismatch: expected 2, got 1"):
        load(store, docker_archive([good, bad]))
    assert untouched(store, storage)


_CONFIG = small().config
_NAME = hashlib.sha256(_CONFIG).hexdigest() + ".json"


def _manifest(**fields: object) -> Entry:
    document = {"Config": _NAME, "RepoTags": ["x:1"], "Layers": []} | fields
    return Entry("manifest.json", json.dumps([document]).encode())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "holds no image"),
        ([Entry("etc/passwd", b"root")], "holds no image"),
        ([Entry("manifest.json", b"{")], "not valid JSON"),
        ([Entry("manifest.json", b"\xff\xfe")], "not valid JSON"),
        ([Entry("manifest.json", b"[" * 100_000)], "nested too deeply"),
        ([Entry("manifest.json", b"{}")], "expected a JSON list"),
        ([Entry("manifest.json", b"[1]")], "expected a JSON object"),
        ([_manifest()], "has no member"),
        ([_manifest(Config="../../etc/passwd")], "leads out of the archive"),
        ([_manifest(Config="/etc/passwd")], "leads out of the archive"),
        ([Entry(_NAME, _CONFIG), _manifest(Layers=["a"])], "has no member"),
        ([Entry(_NAME, _CONFIG), _manifest(Layers="a")], "list of strings"),
        ([Entry(_NAME, _CONFIG), _manifest(RepoTags=["X:1"])], "must be lowercase"),
        ([Entry(_NAME, _CONFIG), _manifest(RepoTags=[f"x@{digest(b'')}"])], "not a tag"),
        ([Entry("../x", b"")], "leads out of the archive"),
        ([Entry("/x", b"")], "leads out of the archive"),
        ([Entry("x", kind="symlink", target="../y")], "leads out of the archive"),
        ([Entry("x", kind="fifo")], "device or a fifo"),
        (
            [
                Entry("manifest.json", kind="symlink", target="x"),
                Entry("x", kind="symlink", target="manifest.json"),
            ],
            "leads in a circle",
        ),
        ([Entry("repositories", b'{"x":{"1":"a"}}')], "has no member"),
        (
            [
                Entry("repositories", b'{"x":{"1":"a"}}'),
                Entry("a/json", b'{"id":"a","parent":"a"}'),
                Entry("a/layer.tar", b""),
            ],
            "parents",
        ),
        ([Entry("index.json", b'{"schemaVersion":2}')], "config must be present"),
        ([Entry("index.json", b'{"schemaVersion":2,"manifests":[{}]}')], "digest must be"),
        ([Entry("index.json", b'{"schemaVersion":2,"manifests":[]}')], "holds no image"),
        (
            [Entry("index.json", b'{"schemaVersion":2,"manifests":[],"layers":[]}')],
            "ambiguous",
        ),
        (
            [
                Entry("index.json", b'{"schemaVersion":2,"manifests":[]}'),
                Entry("oci-layout", b"{}"),
            ],
            "version",
        ),
    ],
)
def test_hostile_archives_are_refused(
    store: ImageStore, storage: MemoryStorage, entries: list[Entry], message: str
) -> None:
    """Each with a message that says what is wrong; nothing is left behind."""
    with pytest.raises(ImageInvalid, match=message):
        load(store, tar(entries))
    assert untouched(store, storage)


def test_a_cut_archive_is_refused(store: ImageStore, storage: MemoryStorage) -> None:
    """Wherever it ends."""
    data = docker_archive([small("x:1")])
    for end in range(0, len(data) - 10240, 509):
        with pytest.raises(ImageInvalid):
            load(store, data[:end])
    assert untouched(store, storage)


def test_an_abandoned_load_leaves_nothing(store: ImageStore, storage: MemoryStorage) -> None:
    """A client that goes away in the middle."""
    events = store.load(io.BytesIO(busybox_archive()))
    next(events)
    events.close()  # type: ignore[attr-defined]  # it is a generator
    assert untouched(store, storage)


def test_an_oci_layout_keeps_its_manifest(store: ImageStore) -> None:
    """The digest that others know the image by survives."""
    data = oci_archive([small("x:1")])
    load(store, data)
    found = store.get("x:1")
    assert found.manifest.digest.encode() in data
    assert found.layers[0].blob.media_type.endswith("+gzip")


def test_the_platform_of_this_host_is_chosen(store: ImageStore) -> None:
    """An index of several platforms yields one image."""
    arm, amd = small(text="arm"), small(text="amd")
    blobs: dict[str, bytes] = {}
    media = "application/vnd.oci.image."

    def put(data: bytes) -> dict[str, object]:
        blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    entries = []
    for built, platform in ((arm, "arm64"), (amd, "amd64")):
        layers = [{"mediaType": media + "layer.v1.tar", **put(data)} for data in built.layers]
        config = {"mediaType": media + "config.v1+json", **put(built.config)}
        document = {"schemaVersion": 2, "config": config, "layers": layers}
        entries.append(
            {
                "mediaType": media + "manifest.v1+json",
                "platform": {"os": "linux", "architecture": platform},
                **put(json.dumps(document).encode()),
            }
        )
    inner = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    top = {
        "mediaType": media + "index.v1+json",
        "annotations": {"org.opencontainers.image.ref.name": "multi:1"},
        **put(inner),
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    archive = tar(
        [
            Entry("index.json", index),
            *(Entry(f"blobs/{key.replace(':', '/')}", data) for key, data in blobs.items()),
        ]
    )

    events = list(store.load(io.BytesIO(archive), Platform.parse("linux/amd64")))
    assert events[-1] == LoadedImage(amd.id, "multi:1")
    events = list(store.load(io.BytesIO(archive), Platform.parse("arm64")))
    assert events[-1] == LoadedImage(arm.id, "multi:1")
    with pytest.raises(ImageInvalid, match="no image for linux/s390x"):
        list(store.load(io.BytesIO(archive), Platform.parse("s390x")))


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress], ids=["xz", "bzip2"])
def test_layers_that_oci_has_no_type_for_are_stored_plain(
    store: ImageStore, compress: Callable[[bytes], bytes]
) -> None:
    """So that what is saved again can be read by everyone."""
    built = small("x:1")
    packed = [compress(data) for data in built.layers]
    config = built.id.removeprefix("sha256:") + ".json"
    manifest = [{"Config": config, "RepoTags": ["x:1"], "Layers": ["1.tar", "2.tar"]}]
    archive = tar(
        [
            Entry(config, built.config),
            *(Entry(f"{number}.tar", data) for number, data in enumerate(packed, 1)),
            Entry("manifest.json", json.dumps(manifest).encode()),
        ]
    )
    assert load(store, archive) == ["Loaded image: x:1"]
    found = store.get("x:1")
    assert [part.blob.digest for part in found.layers] == list(found.config.diff_ids)
    assert len(list(store.content.digests())) == 4


def test_an_image_for_another_system_is_refused(store: ImageStore, storage: MemoryStorage) -> None:
    """In docker's words."""
    built = image([layer({"a": "b"})], tags=["x:1"], os="windows")
    with pytest.raises(ImageInvalid, match="cannot load windows image on linux"):
        load(store, docker_archive([built]))
    assert untouched(store, storage)


def _layout(blobs: dict[str, bytes], manifests: list[dict[str, object]], *more: Entry) -> bytes:
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return tar(
        [
            Entry("index.json", index),
            *more,
            *(Entry(f"blobs/{key.replace(':', '/')}", data) for key, data in blobs.items()),
        ]
    )


def _parts(built: BuiltImage) -> tuple[dict[str, bytes], dict[str, object]]:
    """Return the blobs of an image, and the descriptor of its manifest."""
    blobs = {digest(data): data for data in (*built.layers, built.config)}
    media = "application/vnd.oci.image."
    layers = [
        {"mediaType": media + "layer.v1.tar", "digest": digest(data), "size": len(data)}
        for data in built.layers
    ]
    config = {"mediaType": media + "config.v1+json", "digest": built.id, "size": len(built.config)}
    raw = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    blobs[digest(raw)] = raw
    kind = media + "manifest.v1+json"
    return blobs, {"mediaType": kind, "digest": digest(raw), "size": len(raw)}


def test_attestations_are_passed_over(store: ImageStore) -> None:
    """BuildKit puts them beside the image, and they need not be in the archive."""
    blobs, entry = _parts(small())
    attestation = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(b"not here"),
        "size": 8,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    assert len(load(store, _layout(blobs, [attestation, entry]))) == 1


def test_a_layout_names_images_by_annotation(store: ImageStore) -> None:
    """Containerd's whole name first; a bare word is a tag of nothing; two entries, two names."""
    blobs, entry = _parts(small())
    ref, full = "org.opencontainers.image.ref.name", "io.containerd.image.name"

    def named(**annotations: str) -> dict[str, object]:
        names = {ref if key == "ref" else full: text for key, text in annotations.items()}
        return entry | {"annotations": names}

    assert load(store, _layout(blobs, [named(ref="latest")]))[0].startswith("Loaded image ID")
    both = [named(ref="1", full="docker.io/library/a:1"), named(ref="quay.io/b")]
    assert load(store, _layout(blobs, both)) == [
        "Loaded image: a:1",
        "Loaded image: quay.io/b:latest",
    ]


@pytest.mark.parametrize("missing", range(4))
def test_a_layout_without_one_of_its_blobs_is_refused(
    store: ImageStore, storage: MemoryStorage, missing: int
) -> None:
    """Manifest, configuration or layer."""
    blobs, entry = _parts(small())
    del blobs[list(blobs)[missing]]
    with pytest.raises(ImageInvalid, match="has no blob"):
        load(store, _layout(blobs, [entry]))
    assert untouched(store, storage)


def test_a_blob_of_another_size_than_said_is_refused(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """A descriptor says both digest and size."""
    blobs, entry = _parts(small())
    with pytest.raises(ImageInvalid, match="but what points to it says 7"):
        load(store, _layout(blobs, [entry | {"size": 7}]))
    assert untouched(store, storage)


def test_indexes_are_not_followed_forever(store: ImageStore, storage: MemoryStorage) -> None:
    """A deep chain of indexes is refused."""
    blobs, entry = _parts(small())
    for _ in range(10):
        raw = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        blobs[digest(raw)] = raw
        kind = "application/vnd.oci.image.index.v1+json"
        entry = {"mediaType": kind, "digest": digest(raw), "size": len(raw)}
    with pytest.raises(ImageInvalid, match="nested too deeply"):
        load(store, _layout(blobs, [entry]))
    assert untouched(store, storage)


def test_a_docker_archive_does_not_need_a_sound_layout_beside_it(store: ImageStore) -> None:
    """Docker's documents describe the images; the layout's manifests are taken where they fit."""
    built = small("x:1")
    blobs, entry = _parts(built)
    names = {key: f"blobs/{key.replace(':', '/')}" for key in blobs}
    manifest = {
        "Config": names[built.id],
        "RepoTags": ["x:1"],
        "Layers": [names[digest(data)] for data in built.layers],
    }
    docker = Entry("manifest.json", json.dumps([manifest]).encode())
    raw = b"no manifest"
    blobs[digest(raw)] = raw
    broken = entry | {"digest": digest(raw), "size": len(raw)}
    assert load(store, _layout(blobs, [broken, entry], docker)) == ["Loaded image: x:1"]
    assert store.get("x:1").manifest.digest == entry["digest"]
