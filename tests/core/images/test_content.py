"""The content store: under a digest there is that content or nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pannier.errors import ImageInvalid, InvalidRequest, NotFound, PannierError
from pannier.images.content import ContentStore
from pannier.images.digest import chain_ids, check_digest, short_id
from pannier.images.leases import Leases
from support.images import digest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def leases() -> Leases:
    """Give leases that nobody holds."""
    return Leases()


@pytest.fixture
def content(tmp_path: Path, leases: Leases) -> ContentStore:
    """Give an empty store."""
    return ContentStore(tmp_path / "images", leases)


def never(digest: str) -> bool:
    """Say that nothing references a blob."""
    del digest
    return False


def test_a_blob_is_found_by_its_digest(content: ContentStore, leases: Leases) -> None:
    """In the place that the OCI image layout gives it."""
    with leases.lease() as lease, content.writer(lease) as writer:
        for piece in (b"some", b"", bytearray(b" "), memoryview(b"content")):
            writer.write(piece)
        blob = writer.commit(size=12)
    assert blob.digest == digest(b"some content")
    assert content.read(blob.digest) == b"some content"
    assert (content.root / "blobs" / "sha256" / blob.digest[7:]).read_bytes() == b"some content"
    assert json.loads((content.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert list(content.ingest.iterdir()) == []


def test_what_is_written_by_descriptor_is_hashed_too(content: ContentStore, leases: Leases) -> None:
    """Also when it was mixed with writes."""
    with leases.lease() as lease, content.writer(lease) as writer:
        writer.write(b"one ")
        os.write(writer.fileno(), b"two")
        assert writer.commit().digest == digest(b"one two")


def test_other_content_than_expected_is_refused(content: ContentStore, leases: Leases) -> None:
    """By digest and by size; nothing stays."""
    with leases.lease() as lease:
        with content.writer(lease, digest(b"right")) as writer:
            writer.write(b"wrong")
            with pytest.raises(ImageInvalid, match="was expected"):
                writer.commit()
        with content.writer(lease) as writer:
            writer.write(b"short")
            with pytest.raises(ImageInvalid, match="10 bytes was expected, 5 bytes came"):
                writer.commit(size=10)
    assert [path for path in content.root.rglob("*") if path.is_file()] == [
        content.root / "oci-layout"
    ]


def test_a_writer_that_is_not_committed_leaves_nothing(
    content: ContentStore, leases: Leases
) -> None:
    """Whatever ends the block throws the staged bytes away."""
    with leases.lease() as lease:
        with content.writer(lease) as writer:
            writer.write(b"x")
            assert len(list(content.ingest.iterdir())) == 1
        assert list(content.ingest.iterdir()) == []


def test_sha512_is_a_digest_too(content: ContentStore, leases: Leases) -> None:
    """A blob is checked by the algorithm of what points to it."""
    name = "sha512:" + hashlib.sha512(b"x").hexdigest()
    with leases.lease() as lease, content.writer(lease, name) as writer:
        writer.write(b"x")
        assert writer.commit().digest == name
    assert content.read(name) == b"x"


def test_what_is_missing_or_damaged_is_said(content: ContentStore, leases: Leases) -> None:
    """Never silently read."""
    with pytest.raises(NotFound, match="is not in the image store"):
        content.open(digest(b"x"))
    with leases.lease() as lease:
        blob = content.put(b"whole", lease)
    content.path(blob.digest).write_bytes(b"torn")
    with pytest.raises(PannierError, match="is damaged"):
        content.read(blob.digest)
    with pytest.raises(PannierError, match="is damaged"):
        content.open(blob.digest, 5)


@pytest.mark.parametrize(
    "name",
    ["", "sha256", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "G" * 64, "x:" + "0" * 64],
)
def test_only_a_digest_names_a_blob(content: ContentStore, name: str) -> None:
    """So that no path can be smuggled in."""
    with pytest.raises(InvalidRequest):
        content.path(name)


def test_only_unreferenced_unheld_blobs_are_collected(
    content: ContentStore, leases: Leases
) -> None:
    """A lease holds what nothing points to yet."""
    with leases.lease() as outer:
        kept = content.put(b"held", outer)
        with leases.lease() as inner:
            referenced = content.put(b"referenced", inner)
            free = content.put(b"free", inner)
        freed = content.collect(list(content.digests()), lambda name: name == referenced.digest)
        assert freed == len(b"free")
        assert set(content.digests()) == {kept.digest, referenced.digest}
        assert not content.has(free.digest)
    assert content.collect(list(content.digests()), never) == len(b"held") + len(b"referenced")


def test_a_known_blob_is_held_not_written_again(content: ContentStore, leases: Leases) -> None:
    """A second put keeps the file that is there."""
    with leases.lease() as lease:
        blob = content.put(b"x", lease)
        before = content.path(blob.digest).stat().st_ino
        assert content.put(b"x", lease) == blob
        assert content.path(blob.digest).stat().st_ino == before
        assert content.hold(digest(b"y"), lease) is None


def test_folders_are_closed_to_others(content: ContentStore) -> None:
    """Images may hold secrets (CVE-2021-41091)."""
    for folder in (content.root, content.ingest, content.root / "blobs" / "sha256"):
        assert folder.stat().st_mode & 0o077 == 0


def test_holding_waits_for_a_collector(leases: Leases) -> None:
    """What is being removed at this moment cannot be held before it is gone."""
    held = threading.Event()

    def hold() -> None:
        with leases.lease() as lease:
            lease.hold("key")
            held.set()

    with leases.locked("key"):
        thread = threading.Thread(target=hold)
        thread.start()
        assert not held.wait(0.05)
    assert held.wait(5)
    thread.join()
    assert not leases.held("key")


def test_a_key_is_held_until_its_last_holder_lets_go(leases: Leases) -> None:
    """Two loads of one layer."""
    with leases.lease() as one:
        one.hold("key")
        one.hold("key")
        with leases.lease() as two:
            two.hold("key")
            one.release()
            assert leases.held("key")
        assert not leases.held("key")


def test_many_threads_hold_through_one_lease(leases: Leases) -> None:
    """The layers of one pull; each key counts once, and is free after the release."""
    keys = [f"key {number}" for number in range(50)]
    with leases.lease() as lease, ThreadPoolExecutor(8) as pool:
        list(pool.map(lease.hold, keys * 20))
        assert lease.keys == set(keys)
    assert not any(leases.held(key) for key in keys)


def test_chain_ids_stand_for_all_layers_below() -> None:
    """The specification's formula (OCI image specification, config.md)."""
    one, two, three = ("sha256:" + letter * 64 for letter in "abc")
    chain = chain_ids([one, two, three])
    assert chain[0] == one
    assert chain[1] == digest(f"{one} {two}".encode())
    assert chain[2] == digest(f"{chain[1]} {three}".encode())
    assert chain_ids([]) == []


def test_digests_are_checked() -> None:
    """And ids shortened as Docker does."""
    good = "sha256:" + "a" * 64
    assert check_digest(good) == good
    assert short_id(good) == "a" * 12
    assert short_id("a" * 64) == "a" * 12
    with pytest.raises(InvalidRequest, match="invalid checksum digest length"):
        check_digest("sha256:" + "a" * 63)


def test_a_large_blob_is_not_held_in_memory(content: ContentStore, leases: Leases) -> None:
    """It goes through in pieces, into a file that only the owner reads."""
    with leases.lease() as lease, content.writer(lease) as writer:
        with io.BytesIO(b"x" * 3_000_000) as source:
            while piece := source.read(1 << 20):
                writer.write(piece)
        blob = writer.commit()
    assert content.path(blob.digest).stat().st_size == 3_000_000
    assert content.path(blob.digest).stat().st_mode & 0o777 == 0o600
