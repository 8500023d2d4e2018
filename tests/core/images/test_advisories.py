"""Archives that have broken container engines, by the advisory that tells of each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pannier.errors import ImageInvalid
from pannier.images.compression import Limits
from pannier.images.images import ImageStore
from pannier.images.oci import OCI_LAYER, parse_document
from pannier.images.unpack import unpack_layer
from support.images import Entry, digest, docker_archive, image, layer, oci_archive, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pannier.database import Database
    from support.storage import MemoryStorage


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_no_program_unpacks_an_archive(
    store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[bytes], bytes],
) -> None:
    """One called ``xz`` was run as root, out of the image itself (CVE-2014-9357)."""
    started: list[object] = []
    monkeypatch.setattr(os, "posix_spawn", started.append)
    monkeypatch.setattr("subprocess.Popen", started.append)
    built = image([layer({"a": "b"})], tags=["x:1"])
    packed = image([pack(built.layers[0])], tags=["x:1"], rootfs=json.loads(built.config)["rootfs"])
    list(store.load(io.BytesIO(pack(docker_archive([packed])))))
    assert store.get("x:1").layers[0].diff_id == digest(built.layers[0])
    assert started == []


def test_a_layer_of_nothing_fills_no_memory(
    tmp_path: Path, database: Database, storage: MemoryStorage
) -> None:
    """A small image grew without bounds while it was taken in (CVE-2017-14992)."""
    limits = Limits(ratio=50, floor=1 << 20)
    store = ImageStore(tmp_path, database, storage, limits=limits)
    zeros = tar([Entry("zeros", bytes(64 << 20))])
    bomb = gzip.compress(zeros, 9)
    assert len(bomb) < 200_000
    built = image([zeros], tags=["x:1"])
    data = oci_archive([built])
    del zeros
    tracemalloc.start()
    try:
        with pytest.raises(ImageInvalid, match="unpacks to more than is allowed"):
            list(store.load(io.BytesIO(data)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20
    assert store.list(all=True) == ()


@pytest.mark.root
@pytest.mark.parametrize("form", ["overlay", "apply"])
@pytest.mark.parametrize("target", ["/outside/secret", "../outside/secret"])
def test_no_entry_changes_a_mode_outside(tmp_path: Path, form: str, target: str) -> None:
    """A hard link to a link, and its mode, opened the host's files (CVE-2021-32760)."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    secret = outside / "secret"
    secret.write_text("host")
    secret.chmod(0o600)
    if target.startswith("/"):
        target = str(secret)
    entries = [
        Entry("link", kind="symlink", target=target, mode=0o777),
        Entry("hard", kind="hardlink", target="link", mode=0o4777),
        Entry("link", kind="hardlink", target="hard", mode=0o4777, uid=1234),
    ]
    unpack_layer(io.BytesIO(tar(entries)), root, whiteouts=form)  # type: ignore[arg-type]
    status = secret.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_nlink) == (0o600, 0, 1)
    assert (root / "hard").is_symlink()


def test_one_document_is_not_two() -> None:
    """A manifest that is an index as well was read as either (CVE-2021-41190)."""
    blob = {"mediaType": OCI_LAYER, "digest": digest(b""), "size": 0}
    both = {"schemaVersion": 2, "manifests": [blob], "layers": [blob], "config": blob}
    for kind in ("image.manifest.v1", "image.index.v1"):
        with pytest.raises(ImageInvalid, match="ambiguous"):
            parse_document(json.dumps(both).encode(), f"application/vnd.oci.{kind}+json")


@pytest.mark.parametrize("name", ["../../../../escape", "/escape", "a/../../escape"])
def test_a_member_of_an_archive_names_no_path_of_ours(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    """Names and ids in an archive were joined to the engine's own folders (CVE-2014-9358)."""
    built = image([layer({"a": "b"})], tags=["x:1"])
    documents = [{"Config": f"{name}.json", "RepoTags": ["x:1"], "Layers": [f"{name}.tar"]}]
    entries = [
        Entry(f"{name}.json", built.config),
        Entry(f"{name}.tar", built.layers[0]),
        Entry("manifest.json", json.dumps(documents).encode()),
    ]
    before = set(tmp_path.rglob("*escape*"))
    try:
        list(store.load(io.BytesIO(tar(entries))))
    except ImageInvalid:
        assert store.list(all=True) == ()
    else:
        assert store.get("x:1").id == built.id
    assert set(tmp_path.rglob("*escape*")) == before
