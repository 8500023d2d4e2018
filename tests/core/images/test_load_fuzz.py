"""Loading archives that were damaged or made up: refused or loaded, and never anything between."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.database import Database
from pannier.errors import PannierError
from pannier.images.images import ImageStore
from support.images import (
    BuiltImage,
    Entry,
    digest,
    docker_archive,
    image,
    layer,
    legacy_archive,
    oci_archive,
    tar,
)
from support.storage import MemoryStorage

IMAGE = image([layer({"a": "hello"}), layer({"b": "c"})], tags=["x:1"])
ARCHIVES = [docker_archive([IMAGE]), oci_archive([IMAGE]), legacy_archive([IMAGE])]


def load_and_check(data: bytes) -> bool:
    """Load an archive into an empty store; return whether it was accepted.

    Whatever the archive: an image that is there is whole, and a refused one leaves nothing.
    """
    with tempfile.TemporaryDirectory() as folder, closing(Database(":memory:")) as database:
        storage = MemoryStorage()
        store = ImageStore(Path(folder), database, storage)
        refused = False
        try:
            list(store.load(io.BytesIO(data)))
        except PannierError:
            refused = True
        assert not list(store.content.ingest.iterdir())
        images = store.list(all=True)
        if refused:
            assert not images
            assert not storage.streams
            assert not list(store.content.digests())
            return False
        assert images
        for found in images:
            assert store.content.read(found.id) == found.config.raw
            assert [part.diff_id for part in found.layers] == list(found.config.diff_ids)
            for part in found.layers:
                assert digest(storage.streams[part.chain_id]) == part.diff_id
        store.save([found.id for found in images], io.BytesIO())
        return True


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(ARCHIVES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_flipped_bytes(archive: bytes, damage: list[tuple[int, bytes]]) -> None:
    """Anywhere: in headers, documents, layers."""
    data = bytearray(archive)
    for position, value in damage:
        start = position % (len(data) - len(value))
        data[start : start + len(value)] = value
    accepted = load_and_check(bytes(data))
    assert accepted or damage


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(ARCHIVES),
    st.lists(
        st.tuples(
            st.sampled_from(["cut", "drop", "repeat", "swap"]),
            st.integers(0, 1000),
            st.integers(0, 1000),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_blocks_lost_repeated_and_swapped(
    archive: bytes, operations: list[tuple[str, int, int]]
) -> None:
    """As a broken transfer or a tape would."""
    blocks = [archive[start : start + 512] for start in range(0, len(archive), 512)]
    for kind, one, two in operations:
        if not blocks:
            break
        first, second = one % len(blocks), two % len(blocks)
        if kind == "cut":
            blocks = blocks[:first]
        elif kind == "drop":
            del blocks[first]
        elif kind == "repeat":
            blocks.insert(second, blocks[first])
        else:
            blocks[first], blocks[second] = blocks[second], blocks[first]
    load_and_check(b"".join(blocks))


_NAMES = ["manifest.json", "index.json", "repositories", "oci-layout", "a/json", "a/layer.tar", "c"]
_blob = f"blobs/sha256/{IMAGE.id[7:]}"
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.sampled_from([*_NAMES, _blob, IMAGE.id, "x:1", "a", "../a", "", "linux"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "Config",
                        "RepoTags",
                        "Layers",
                        "schemaVersion",
                        "mediaType",
                        "config",
                        "layers",
                    ),
                    *(
                        "manifests",
                        "digest",
                        "size",
                        "annotations",
                        "platform",
                        "parent",
                        "id",
                        "x",
                    ),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_content = st.one_of(
    _json.map(lambda value: json.dumps(value).encode()),
    st.just(IMAGE.config),
    st.sampled_from(IMAGE.layers),
    st.binary(max_size=20),
)
_entry = st.builds(
    Entry,
    name=st.sampled_from([*_NAMES, _blob, "../x", "/x", "./c", "a/../c"]),
    data=_content,
    kind=st.sampled_from(["file", "file", "file", "dir", "symlink", "hardlink", "fifo"]),
    target=st.sampled_from([*_NAMES, _blob, "../c", ".."]),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(_entry, max_size=6))
def test_made_up_archives(entries: list[Entry]) -> None:
    """Documents of the right names with anything in them, and links to anywhere."""
    load_and_check(tar(entries))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(IMAGE.layers), max_size=4), st.integers(0, 2))
def test_any_list_of_layers_for_a_configuration(layers: list[bytes], form: int) -> None:
    """Only the right ones make an image."""
    built = BuiltImage(IMAGE.config, tuple(layers), ("x:1",))
    right = tuple(layers) == IMAGE.layers
    if form == 2:
        # The old form has no configuration of its own: any layers make an image, if there are any.
        right = bool(layers)
        data = legacy_archive([built]) if layers else tar([Entry("repositories", b"{}")])
    else:
        data = (docker_archive, oci_archive)[form]([built])
    assert load_and_check(data) is right
