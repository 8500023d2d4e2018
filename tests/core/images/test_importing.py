"""``docker import`` and ``docker commit``: images made here."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import pytest

from pannier.errors import ImageInvalid, InvalidRequest, NotFound
from pannier.images.config import RunConfig
from pannier.images.digest import EMPTY_DIFF_ID
from pannier.images.importing import CommitRequest, ImportRequest
from pannier.images.load import LoadedImage
from pannier.images.oci import Platform
from pannier.images.reference import Reference, parse_reference
from support.images import busybox_layer, digest, docker_archive, image, layer, tar

if TYPE_CHECKING:
    from pannier.images.images import ImageStore
    from support.storage import MemoryStorage


def name(text: str) -> Reference:
    """Return a tag."""
    return parse_reference(text).with_default_tag()


def loaded(store: ImageStore, **config: object) -> str:
    """Load an image, and return its id."""
    built = image([layer({"base": "b"})], tags=["base:1"], config=config)
    list(store.load(io.BytesIO(docker_archive([built]))))
    return built.id


def untouched(store: ImageStore, storage: MemoryStorage) -> bool:
    """Whether nothing is left."""
    return not list(store.content.digests()) and not storage.streams


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_root_filesystem_becomes_an_image(
    store: ImageStore, storage: MemoryStorage, compress: type[bytes]
) -> None:
    """Of one layer, with the changes, the message and the name that were asked for."""
    request = ImportRequest(
        name=name("rootfs"),
        changes=('CMD ["sh"]', "ENV A=1"),
        message="why",
        platform=Platform.parse("linux/arm64"),
    )
    added = store.import_image(io.BytesIO(compress(busybox_layer())), request)
    found = store.get("rootfs:latest")
    assert added.image == found
    assert (found.config.config.cmd, found.config.config.env) == (("sh",), ("A=1",))
    assert found.config.diff_ids == (digest(busybox_layer()),)
    assert found.config.comment == found.config.history[0].comment == "why"
    assert str(found.config.platform) == "linux/arm64"
    assert storage.streams[str(found.top_layer)] == busybox_layer()
    assert found.parent is None


def test_the_message_says_where_it_came_from(store: ImageStore) -> None:
    """Where none is given."""
    added = store.import_image(io.BytesIO(layer({"a": "b"})), ImportRequest(source="x.tar"))
    assert added.image.config.comment == "Imported from x.tar"
    assert added.image.tags == ()


def test_a_bad_import_leaves_nothing(store: ImageStore, storage: MemoryStorage) -> None:
    """A broken stream, a bad change, a foreign platform."""
    with pytest.raises(ImageInvalid):
        store.import_image(io.BytesIO(b"no tar archive" * 100), ImportRequest())
    with pytest.raises(ImageInvalid):
        store.import_image(io.BytesIO(gzip.compress(layer({}))[:-9]), ImportRequest())
    with pytest.raises(InvalidRequest, match="run is not a valid change command"):
        store.import_image(io.BytesIO(layer({})), ImportRequest(changes=("RUN x",)))
    request = ImportRequest(platform=Platform("windows", "amd64"))
    with pytest.raises(InvalidRequest, match="cannot import an image for windows/amd64"):
        store.import_image(io.BytesIO(layer({})), request)
    assert untouched(store, storage)


def test_a_commit_adds_the_containers_layer(store: ImageStore, storage: MemoryStorage) -> None:
    """On top of its image's, with the container's configuration and the changes."""
    base = loaded(store, Cmd=["old"], Labels={"l": "1"})
    below = store.get(base)
    storage.change("key", below.top_layer, {"new": "file"})
    added = store.commit(
        CommitRequest(
            container="key",
            base=base,
            config=RunConfig(cmd=("run",), env=("X=1",)),
            name=name("made:1"),
            changes=("LABEL a=b",),
            author="me",
            message="why",
            created_by="/bin/sh",
        )
    )
    found = store.get("made:1")
    assert added.new
    assert found.parent == base
    assert found.layers[0] == below.layers[0]
    assert storage.streams[found.layers[1].chain_id] == layer({"new": "file"})
    assert storage.parents[found.layers[1].chain_id] == found.layers[0].chain_id
    assert found.config.config == RunConfig(cmd=("run",), env=("X=1",), labels={"a": "b"})
    assert (found.config.author, found.config.comment) == ("me", "why")
    step = found.config.history[-1]
    assert (step.author, step.comment, step.created_by) == ("me", "why", "/bin/sh")
    assert step.created == found.config.created
    assert len(found.config.history) == len(below.config.history) + 1


def test_the_layer_is_stored_as_it_is(store: ImageStore, storage: MemoryStorage) -> None:
    """Plain: the blob's digest is the diff id."""
    base = loaded(store)
    storage.change("key", store.get(base).top_layer, {"new": "file"})
    top = store.commit(CommitRequest("key", base, RunConfig())).image.layers[-1]
    assert top.blob.digest == top.diff_id
    assert top.blob.media_type == "application/vnd.oci.image.layer.v1.tar"
    with store.content.open(top.blob.digest) as stream:
        assert stream.readall() == layer({"new": "file"})


def test_a_container_that_changed_nothing_adds_no_layer(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """Only a step in the history."""
    base = loaded(store)
    storage.writable["key"] = store.get(base).top_layer, bytes(1024)
    assert digest(bytes(1024)) == EMPTY_DIFF_ID
    found = store.commit(CommitRequest("key", base, RunConfig(cmd=("x",)))).image
    assert found.layers == store.get(base).layers
    assert found.config.history[-1].empty_layer
    assert found.id != base
    store.remove(found.id, users=tuple)
    assert storage.has_layer(str(store.get(base).top_layer))


def test_a_container_without_an_image_is_committed_too(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """One that ran on a folder of the host."""
    storage.change("key", None, {"new": "file"})
    found = store.commit(CommitRequest("key", None, RunConfig())).image
    assert len(found.layers) == 1
    assert found.parent is None
    assert found.config.platform == Platform.native()


def test_a_failed_commit_leaves_nothing(store: ImageStore, storage: MemoryStorage) -> None:
    """No container, no image, a bad change."""
    storage.change("key", None, {"new": "file"})
    with pytest.raises(NotFound, match="no container layer other"):
        store.commit(CommitRequest("other", None, RunConfig()))
    with pytest.raises(NotFound, match="No such image"):
        store.commit(CommitRequest("key", "sha256:" + "0" * 64, RunConfig()))
    with pytest.raises(InvalidRequest):
        store.commit(CommitRequest("key", None, RunConfig(), changes=("NO x",)))
    assert untouched(store, storage)


def test_a_made_image_is_saved_like_any_other(store: ImageStore, storage: MemoryStorage) -> None:
    """And loads again with the same id."""
    base = loaded(store)
    storage.change("key", store.get(base).top_layer, {"new": "file"})
    made = store.commit(CommitRequest("key", base, RunConfig(), name=name("made:1"))).image
    out = io.BytesIO()
    store.save(["made:1"], out)
    store.remove("made:1", users=tuple)
    events = list(store.load(io.BytesIO(out.getvalue())))
    assert events[-1] == LoadedImage(made.id, "made:1")
    assert store.get("made:1").id == made.id


def test_an_empty_archive_is_a_layer(store: ImageStore) -> None:
    """As docker imports it: an image from nothing."""
    assert store.import_image(io.BytesIO(tar([])), ImportRequest()).image.size == 0
