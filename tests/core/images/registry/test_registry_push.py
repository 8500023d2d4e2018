"""Pushing: what is sent, in which form, and what is not sent again."""

from __future__ import annotations

import gzip
import io
import json
import threading
from typing import TYPE_CHECKING

import pytest

from pannier.errors import NotFound, PannierError
from pannier.images.gzipping import compress
from pannier.images.registry.auth import Credentials
from pannier.images.registry.cancelling import Cancellation, Cancelled
from pannier.images.registry.refusals import AccessDenied, RegistryError
from support.images import digest, docker_archive, image
from support.registry import PASSWORD, USER, Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.images.registry.transfers import TransferEvent
    from support.images import BuiltImage
    from support.registry import FaultyRegistry
    from support.registry_rig import Rig

JO = Credentials(USER, PASSWORD)


@pytest.fixture
def name(registry: FaultyRegistry) -> str:
    """Return a name at the registry."""
    return f"{registry.host}/t/x:1"


@pytest.fixture
def loaded(rig: Rig, small: BuiltImage, name: str) -> BuiltImage:
    """Load an image, whose layers are then stored plain."""
    list(rig.store.load(io.BytesIO(docker_archive([image(small.layers, tags=[name])]))))
    return small


def manifest(registry: FaultyRegistry, tag: str = "1", repository: str = "t/x") -> Any:
    """Return a manifest that the registry has."""
    return json.loads(registry.manifests[repository, tag][0])


def sent(registry: FaultyRegistry) -> list[str]:
    """Return the requests that carried content."""
    return registry.lines("(PUT|PATCH) .*/blobs/")


class TestForm:
    """Compressed layers go as they are, plain ones as gzip."""

    def test_plain_layers_are_compressed(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """The manifest says so; the image gets the digest of it as a name."""
        pushed = rig.push(name)
        found = manifest(registry)
        for described, plain in zip(found["layers"], loaded.layers, strict=True):
            assert described["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
            stored = registry.blobs[described["digest"]]
            assert described["size"] == len(stored)
            assert gzip.decompress(stored) == plain
        assert found["config"]["digest"] == loaded.id
        assert pushed.digest == digest(registry.manifests["t/x", "1"][0])
        assert rig.store.get(name).digests == (f"{registry.host}/t/x@{pushed.digest}",)
        # What was made for the registry is not kept here.
        assert {digest(data) for data in loaded.layers} < set(rig.store.content.digests())
        assert len(list(rig.store.content.digests())) == 4

    def test_what_was_pulled_goes_byte_for_byte(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, name: str
    ) -> None:
        """And so has the digest that it came with."""
        came = registry.put(small, compress=lambda data: gzip.compress(data, 9, mtime=77))
        rig.pull(f"{registry.host}/a/b:1")
        rig.store.tag(f"{registry.host}/a/b:1", name)
        registry.repositories.pop("a/b")
        assert rig.push(name).digest == came
        assert registry.manifests["t/x", "1"] == registry.manifests["a/b", "1"]

    def test_the_next_engine_can_pull_it(
        self, rig: Rig, make_rig: Callable[..., Rig], loaded: BuiltImage, name: str
    ) -> None:
        """It is the same image there."""
        rig.push(name)
        other = make_rig("other")
        assert other.pull(name).image.id == loaded.id
        assert sorted(other.storage.streams.values()) == sorted(loaded.layers)

    def test_two_stores_push_the_same(
        self,
        registry: FaultyRegistry,
        rig: Rig,
        make_rig: Callable[..., Rig],
        loaded: BuiltImage,
        name: str,
    ) -> None:
        """Nothing of time or place is in it."""
        first = rig.push(name)
        other = make_rig("other")
        archive = docker_archive([image(loaded.layers, tags=[name])])
        list(other.store.load(io.BytesIO(archive)))
        before = len(sent(registry))
        assert other.push(name).digest == first.digest
        assert len(sent(registry)) == before

    def test_what_is_reported(self, rig: Rig, loaded: BuiltImage, name: str) -> None:
        """Layers by their diff ids, each from its preparation to its end."""
        rig.push(name)
        short = [digest(data)[7:19] for data in loaded.layers]
        assert rig.events[0].status.startswith("The push refers to repository [")
        for one in short:
            story = [event.status for event in rig.events if event.id == one]
            assert story[0] == "Preparing"
            assert story[-1] == "Pushed"
        assert {event.id for event in rig.events} == {"", *short}

    def test_what_is_not_here(self, rig: Rig, name: str) -> None:
        """Nothing is asked of the registry."""
        with pytest.raises(NotFound, match="No such image"):
            rig.push(name)


class TestOnce:
    """What a registry has is not sent."""

    def test_a_second_push(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """It asks, compresses nothing and sends the manifest alone; after a restart as well."""
        del loaded
        first = rig.push(name)
        rig.restart()
        registry.seen.clear()
        rig.events.clear()
        assert rig.push(name).digest == first.digest
        assert sent(registry) == []
        assert rig.statuses().count("Layer already exists") == 2

    def test_taken_over_from_another_repository(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """Of the same registry."""
        del loaded
        rig.push(name)
        rig.store.tag(name, f"{registry.host}/other:2")
        registry.seen.clear()
        rig.events.clear()
        rig.push(f"{registry.host}/other:2")
        assert rig.statuses().count("Mounted from t/x") == 2
        assert registry.mounted[:2] == ["t/x", "t/x"]
        assert len(sent(registry)) <= 1  # the configuration

    def test_a_repository_that_has_gone(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """It is sent after all, and the upload begun in vain is ended."""
        rig.push(name)
        rig.store.tag(name, f"{registry.host}/other:2")
        registry.repositories.pop("t/x")
        rig.push(f"{registry.host}/other:2")
        assert len(manifest(registry, "2", "other")["layers"]) == len(loaded.layers)
        assert registry.uploads == {}

    def test_a_lost_blob_is_made_again(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """What the registry collected meanwhile."""
        del loaded
        first = rig.push(name)
        registry.repositories.clear()
        assert rig.push(name).digest == first.digest
        assert len(registry.repositories["t/x"]) == 3


class TestFaults:
    """Registries that are difficult."""

    @pytest.mark.parametrize("on", ["POST .*/uploads/", "HEAD ", "PUT .*/uploads/", "PUT .*/mani"])
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_what_passes_is_tried_again(  # noqa: PLR0917 - fixtures and parameters
        self,
        registry: FaultyRegistry,
        rig: Rig,
        loaded: BuiltImage,
        name: str,
        on: str,
        status: int,
    ) -> None:
        """Each blob for itself, with a new upload."""
        registry.faults = Faults(statuses=[(status, {})] * 2, on=on)
        rig.push(name)
        assert len(manifest(registry)["layers"]) == len(loaded.layers)
        assert registry.uploads == {}

    def test_one_that_takes_no_blob_whole(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """Then it comes in chunks."""
        registry.faults.refuse_whole = True
        rig.push(name)
        assert registry.lines("PATCH")
        stored = registry.blobs[manifest(registry)["layers"][0]["digest"]]
        assert gzip.decompress(stored) == loaded.layers[0]

    def test_one_that_says_how_large_chunks_are(
        self,
        registry: FaultyRegistry,
        rig: Rig,
        loaded: BuiltImage,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """By OCI-Chunk-Min-Length; only the last one may be smaller."""
        del loaded
        monkeypatch.setattr("pannier.images.registry.uploading._CHUNK", 1)
        registry.faults.chunk = 60_000
        rig.push(name)
        lengths: dict[str, list[int]] = {}
        for seen in registry.seen:
            if seen.method == "PATCH":
                lengths.setdefault(seen.path.partition("?")[0], []).append(
                    int(seen.headers["Content-Length"])
                )
        assert sorted(len(parts) for parts in lengths.values()) == [1, 4, 4]
        assert all(min(parts[:-1], default=60_000) >= 60_000 for parts in lengths.values())

    def test_a_token_that_expires_in_the_midst(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """The body is sent again, from its beginning."""
        registry.auth = "bearer"
        registry.token_uses = 3  # for three threads at once
        rig.push(name, JO)
        assert (
            gzip.decompress(registry.blobs[manifest(registry)["layers"][1]["digest"]])
            == loaded.layers[1]
        )

    def test_not_allowed(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """At once, with the registry's words."""
        del loaded
        registry.auth = "basic"
        with pytest.raises(AccessDenied, match="authentication required"):
            rig.push(name)
        assert sent(registry) == []

    def test_what_is_refused_is_refused(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """A manifest that the registry does not like."""
        del loaded
        registry.faults = Faults(statuses=[(422, {})], on="PUT .*/manifests/")
        with pytest.raises(RegistryError, match="answered 422"):
            rig.push(name)

    def test_an_upload_elsewhere_gets_no_credentials(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """The place to upload to may be a storage service."""
        del loaded
        registry.auth = "basic"
        there = {"Location": "http://localhost:1/upload?signature=x"}
        registry.faults = Faults(statuses=[(202, there)] * 99, on="POST .*/uploads/")
        with pytest.raises(PannierError, match="cannot be reached"):
            rig.push(name, JO)

    def test_given_up(
        self, registry: FaultyRegistry, rig: Rig, loaded: BuiltImage, name: str
    ) -> None:
        """Uploads are ended, and no manifest appears."""
        del loaded
        cancellation = Cancellation()

        def report(event: TransferEvent) -> None:
            if event.status == "Pushing":
                cancellation.cancel()

        with pytest.raises(Cancelled):
            rig.pusher.push(rig.request(name, cancellation=cancellation, report=report))
        assert ("t/x", "1") not in registry.manifests


class TestCompress:
    """The compressor."""

    @pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000])
    @pytest.mark.parametrize("threads", [1, 3])
    def test_gzip_reads_it(self, size: int, threads: int) -> None:
        """Every size, whatever the number of threads, gives one member and the same bytes."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only here

        data = (b"some text, and more of it " * (size // 26 + 1))[:size]
        with ThreadPoolExecutor(threads) as pool:
            packed = b"".join(compress(io.BytesIO(data), pool, threads, lambda: None))
        assert gzip.decompress(packed) == data
        assert packed[4:8] == bytes(4)  # no time
        with ThreadPoolExecutor(2) as pool:
            assert b"".join(compress(io.BytesIO(data), pool, 2, lambda: None)) == packed

    def test_it_can_be_stopped(self) -> None:
        """Between blocks."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only here

        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise Cancelled("stop")

        with ThreadPoolExecutor(1) as pool:
            pieces = compress(io.BytesIO(bytes(20 << 20)), pool, 2, check)
            next(pieces)
            stop.set()
            with pytest.raises(Cancelled):
                list(pieces)
