"""``docker save``: one archive that every tool reads, and that is the same for the same image."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pannier.database import Database
from pannier.errors import NotFound
from pannier.images.images import ImageStore
from support.images import busybox_image, digest, docker_archive, image, layer, oci_archive
from support.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.images import BuiltImage


def load(store: ImageStore, data: bytes) -> None:
    """Load an archive."""
    list(store.load(io.BytesIO(data)))


def saved(store: ImageStore, *names: str) -> bytes:
    """Save images into memory."""
    out = io.BytesIO()
    store.save(names, out)
    return out.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """Read an archive with another reader than ours."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            found[member.name] = b"" if stream is None else stream.read()
    return found


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ImageStore]:
    """Give a second, empty store."""
    with closing(Database(":memory:")) as database:
        yield ImageStore(tmp_path / "other", database, MemoryStorage())


def small(*tags: str, text: str = "hello") -> BuiltImage:
    """Return an image of two layers."""
    return image([layer({"base": "b"}), layer({"a": text})], tags=tags)


@pytest.mark.parametrize(
    "archive", [docker_archive, oci_archive], ids=["from docker", "from an OCI layout"]
)
def test_the_same_image_gives_the_same_bytes(
    store: ImageStore, other: ImageStore, archive: Callable[[list[BuiltImage]], bytes]
) -> None:
    """Also after a round trip through another store: ids, manifests and blobs survive."""
    load(store, archive([small("x:1")]))
    first = saved(store, "x:1")
    assert saved(store, "x:1") == first
    load(other, first)
    assert saved(other, "x:1") == first
    assert other.get("x:1").manifest == store.get("x:1").manifest


def test_the_archive_is_a_docker_archive_and_an_oci_layout(store: ImageStore) -> None:
    """Both documents point to the same blobs, whose names are their digests."""
    built = small("x:1")
    load(store, docker_archive([built]))
    files = members(saved(store, "x:1"))
    [document] = json.loads(files["manifest.json"])
    assert document["RepoTags"] == ["x:1"]
    assert files[document["Config"]] == built.config
    assert [files[name] for name in document["Layers"]] == list(built.layers)
    [entry] = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/x:1",
        "org.opencontainers.image.ref.name": "1",
    }
    manifest = json.loads(files[f"blobs/{entry['digest'].replace(':', '/')}"])
    assert manifest["config"]["digest"] == built.id
    for name, data in files.items():
        if name.startswith("blobs/sha256/"):
            assert digest(data) == name.removeprefix("blobs/").replace("/", ":")


def test_shared_layers_are_written_once(store: ImageStore) -> None:
    """Two images with one base."""
    load(store, docker_archive([small("one:1"), small("two:1", text="other")]))
    data = saved(store, "one:1", "two:1")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    layers = [
        name
        for document in json.loads(members(data)["manifest.json"])
        for name in document["Layers"]
    ]
    assert len(layers) == 4
    assert len(set(layers)) == 3


def test_a_repository_saves_all_of_its_tags(store: ImageStore) -> None:
    """A tag saves itself, an id saves the image without a name."""
    one, two = small("x:1", "x:2", "y:1"), small("x:3", text="other")
    load(store, docker_archive([one, two]))

    def tags(*names: str) -> list[list[str] | None]:
        documents = json.loads(members(saved(store, *names))["manifest.json"])
        return [document["RepoTags"] for document in documents]

    assert tags("x") == [["x:1", "x:2"], ["x:3"]]
    assert tags("x:2") == [["x:2"]]
    assert tags(one.id) == [None]
    assert tags(one.id[7:19]) == [None]
    assert tags("x:1", "y:1", one.id) == [["x:1", "y:1"]]


def test_an_image_that_is_not_there_writes_nothing(store: ImageStore) -> None:
    """The error comes before the first byte."""
    load(store, docker_archive([small("x:1")]))
    out = io.BytesIO()
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        store.save(["x:1", "nothing"], out)
    assert out.getvalue() == b""


@pytest.mark.parametrize("kind", ["file", "buffered file", "pipe", "socket"])
def test_every_kind_of_output_gets_the_same_bytes(
    store: ImageStore, tmp_path: Path, kind: str
) -> None:
    """Where there is a descriptor the kernel copies, else we do."""
    load(store, docker_archive([busybox_image()]))
    expected = saved(store, "busybox")
    if kind.endswith("file"):
        with (tmp_path / "out").open("wb", buffering=0 if kind == "file" else -1) as out:
            store.save(["busybox"], out)
        assert (tmp_path / "out").read_bytes() == expected
        return
    if kind == "pipe":
        reading, writing = os.pipe()
        source, sink = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
    else:
        left, right = socket.socketpair()
        source, sink = left.makefile("rb"), right.makefile("wb")
        left.close()
        right.close()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(source.read()))
    reader.start()
    store.save(["busybox"], sink)
    sink.close()
    reader.join(30)
    source.close()
    assert received == [expected]


needs_skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is missing: apt-get install skopeo"
)


def skopeo(*arguments: str) -> str:
    """Run skopeo."""
    command = ["skopeo", "--insecure-policy", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_skopeo
@pytest.mark.parametrize(
    "source", ["docker-archive:{}:busybox:latest", "oci-archive:{}"], ids=["docker", "oci"]
)
def test_skopeo_reads_what_save_writes(store: ImageStore, tmp_path: Path, source: str) -> None:
    """As either kind of archive, with the same configuration and layers."""
    built = busybox_image(more_layers=[layer({"etc/motd": "hi"})])
    load(store, docker_archive([built]))
    (tmp_path / "saved.tar").write_bytes(saved(store, "busybox:latest"))
    read = source.format(tmp_path / "saved.tar")
    skopeo("copy", "--dest-decompress", read, f"dir:{tmp_path / 'dir'}")
    manifest = json.loads((tmp_path / "dir" / "manifest.json").read_text())
    assert manifest["config"]["digest"] == built.id
    assert [entry["digest"] for entry in manifest["layers"]] == [digest(d) for d in built.layers]


@needs_skopeo
@pytest.mark.parametrize(
    "form",
    ["docker-archive:{}:busybox:latest", "oci-archive:{}:busybox:latest"],
    ids=["docker", "oci"],
)
@pytest.mark.parametrize("first", [docker_archive, oci_archive], ids=["plain", "gzip"])
def test_load_reads_what_skopeo_writes(
    store: ImageStore,
    tmp_path: Path,
    form: str,
    first: Callable[[list[BuiltImage]], bytes],
) -> None:
    """Archives that skopeo made of ours come back as the same image."""
    built = busybox_image(more_layers=[layer({"etc/motd": "hi"})])
    (tmp_path / "ours.tar").write_bytes(first([built]))
    kind = "docker-archive" if first is docker_archive else "oci-archive"
    skopeo("copy", f"{kind}:{tmp_path / 'ours.tar'}", form.format(tmp_path / "theirs.tar"))
    load(store, (tmp_path / "theirs.tar").read_bytes())
    found = store.get("busybox:latest")
    assert found.config.config.cmd == ("sh",)
    assert [part.diff_id for part in found.layers] == [digest(data) for data in built.layers]
