"""What an archive says of which image was made from which."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from pannier.errors import Conflict, ImageInvalid
from support.images import BuiltImage, Entry, docker_archive, image, layer, tar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pannier.images.images import ImageStore

LAYERS = [layer({"a": "1"}), layer({"b": "2"}), layer({"c": "3"})]
BASE = image(LAYERS[:1], tags=["base:1"])
MIDDLE = image(LAYERS[:2])
TOP = image(LAYERS, tags=["top:1"])
BARE = image(LAYERS[:1], history=[])
BARE_TOP = image(LAYERS[:2], history=[])


def archive(images: Sequence[BuiltImage], parents: Mapping[str, str]) -> bytes:
    """Return an archive whose ``manifest.json`` names parents, by id."""
    with tarfile.open(fileobj=io.BytesIO(docker_archive(images))) as members:
        entries = [
            Entry(one.name, members.extractfile(one).read())  # type: ignore[union-attr]
            for one in members
            if one.isfile()
        ]
    documents: list[dict[str, Any]] = json.loads(entries[-1].data)
    for built, document in zip(images, documents, strict=True):
        if built.id in parents:
            document["Parent"] = parents[built.id]
    return tar([*entries[:-1], Entry("manifest.json", json.dumps(documents).encode())])


def load(store: ImageStore, data: bytes) -> None:
    """Load an archive."""
    list(store.load(io.BytesIO(data)))


LINE = archive([BASE, MIDDLE, TOP], {MIDDLE.id: BASE.id, TOP.id: MIDDLE.id})


def test_parents_are_taken_over(store: ImageStore) -> None:
    """So that the history names them, and they stay as long as their children."""
    load(store, LINE)
    assert [store.get(one.id).parent for one in (TOP, MIDDLE, BASE)] == [MIDDLE.id, BASE.id, None]
    assert [item.id for item in store.history("top:1")] == [TOP.id, MIDDLE.id, BASE.id]
    assert [one.id for one in store.list()] == sorted([TOP.id, BASE.id])
    with pytest.raises(Conflict, match="image has dependent child images"):
        store.remove(BASE.id, users=list, force=True)
    store.remove("top:1", users=list)
    assert [one.id for one in store.list(all=True)] == [BASE.id]


def test_an_image_that_was_there_gets_its_parent(store: ImageStore) -> None:
    """It came alone before; one that it has already stays."""
    load(store, docker_archive([TOP]))
    assert store.get("top:1").parent is None
    load(store, LINE)
    assert store.get("top:1").parent == MIDDLE.id
    load(store, docker_archive([TOP]))
    assert store.get("top:1").parent == MIDDLE.id


def test_they_survive_a_round_trip(store: ImageStore) -> None:
    """A parent is named where it is saved with its child, and not otherwise."""
    load(store, LINE)
    out = io.BytesIO()
    store.save(["top:1", MIDDLE.id], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as members:
        documents = json.load(members.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert [one.get("Parent") for one in documents] == [MIDDLE.id, None]


@pytest.mark.parametrize("parent", ["", "sha256:" + "0" * 64, "nonsense", TOP.id])
def test_one_that_is_not_in_the_archive_counts_for_nothing(store: ImageStore, parent: str) -> None:
    """As with Docker; nor does the image itself."""
    load(store, archive([TOP], {TOP.id: parent}))
    assert store.get("top:1").parent is None


@pytest.mark.parametrize(
    ("images", "child", "parent"),
    [
        ([BASE, TOP], TOP, BASE),
        ([MIDDLE, TOP], MIDDLE, TOP),
        ([BARE, MIDDLE], MIDDLE, BARE),
        ([BARE, BARE_TOP], BARE, BARE_TOP),
        ([image([LAYERS[1]], history=[]), BARE_TOP], BARE_TOP, image([LAYERS[1]], history=[])),
    ],
)
def test_one_that_cannot_be_is_refused(
    store: ImageStore, images: list[BuiltImage], child: BuiltImage, parent: BuiltImage
) -> None:
    """Nothing is loaded then."""
    with pytest.raises(ImageInvalid, match="is not a valid parent for"):
        load(store, archive(images, {child.id: parent.id}))
    assert store.list(all=True) == ()


def test_images_without_histories(store: ImageStore) -> None:
    """The parent is known by its layers; a circle is none."""
    load(store, archive([BARE, BARE_TOP], {BARE_TOP.id: BARE.id}))
    assert store.get(BARE_TOP.id).parent == BARE.id
    circle = {BARE.id: BARE_TOP.id, BARE_TOP.id: BARE.id}
    with pytest.raises(ImageInvalid):
        load(store, archive([BARE, BARE_TOP], circle))
