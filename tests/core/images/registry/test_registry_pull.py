"""Pulling: what a well-behaved registry's many kinds of images become."""

from __future__ import annotations

import gzip
import io
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pannier.config import RegistriesTable, RegistryTable
from pannier.errors import (
    ImageInvalid,
    InvalidRequest,
    NotFound,
    PannierError,
    UnsupportedOperation,
)
from pannier.images.oci import Platform
from pannier.images.registry.cancelling import Cancellation, Cancelled
from pannier.images.registry.pull import describe_at
from pannier.images.registry.settings import RegistryOptions
from pannier.images.registry.transfers import Throttle, TransferEvent
from support.images import digest, docker_archive, image, layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import BuiltImage
    from support.registry import FaultyRegistry
    from support.registry_rig import Rig

ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}
AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": "v8"}


class TestPlain:
    """An image under a tag."""

    def test_first_and_second_time(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """Its content, its names, what is reported; the second time costs one request."""
        pushed = registry.put(small)
        name = f"{registry.host}/a/b:1"
        pulled = rig.pull(name)
        assert (pulled.digest, pulled.changed) == (pushed, True)
        assert pulled.image.id == small.id
        assert pulled.image.tags == (name,)
        assert pulled.image.digests == (f"{registry.host}/a/b@{pushed}",)
        assert sorted(rig.storage.streams.values()) == sorted(small.layers)
        assert rig.statuses()[0] == "Pulling from a/b"
        assert rig.statuses().count("Pulling fs layer") == 2
        assert rig.statuses()[-1] == "Pull complete"
        assert rig.leftovers() == []
        registry.seen.clear()
        assert not rig.pull(name).changed
        assert registry.lines("blobs") == []

    def test_by_digest(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """It gets no tag, and another content is refused."""
        pushed = registry.put(small)
        pulled = rig.pull(f"{registry.host}/a/b@{pushed}")
        assert (pulled.image.tags, pulled.digest) == ((), pushed)
        assert pulled.image.digests == (f"{registry.host}/a/b@{pushed}",)
        other = "sha256:" + "1" * 64
        registry.manifests["a/b", other] = registry.manifests["a/b", pushed]
        with pytest.raises(ImageInvalid, match="something else"):
            rig.pull(f"{registry.host}/a/b@{other}")

    def test_a_tag_that_moved(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """The name leads to the new image, the old one keeps its digest."""
        registry.put(small)
        old = rig.pull(f"{registry.host}/a/b:1").image
        newer = image([*small.layers, layer({"new": "file"})])
        registry.put(newer)
        rig.events.clear()
        pulled = rig.pull(f"{registry.host}/a/b:1")
        assert (pulled.changed, pulled.image.id) == (True, newer.id)
        assert rig.store.get(old.id).tags == ()
        assert rig.statuses().count("Already exists") == 2

    def test_a_layer_that_is_listed_twice(self, registry: FaultyRegistry, rig: Rig) -> None:
        """It comes down once, and is a layer twice."""
        twice = layer({"same": "content"})
        registry.put(image([twice, twice]))
        pulled = rig.pull(f"{registry.host}/a/b:1")
        assert len(pulled.image.layers) == 2
        assert len(registry.lines("GET .*/blobs/")) == 2  # the layer and the configuration

    def test_zstd_and_plain_layers(self, registry: FaultyRegistry, rig: Rig) -> None:
        """Other compressions than gzip's."""
        zstd = pytest.importorskip("backports.zstd", reason="needs backports.zstd")
        built = image([layer({"a": "b"})])
        registry.put(built, "zstd", compress=zstd.compress, suffix="+zstd")
        registry.put(built, "plain", "a/c", compress=bytes, suffix="")
        pulled = rig.pull(f"{registry.host}/a/b:zstd")
        assert list(rig.storage.streams.values()) == list(built.layers)
        assert pulled.image.layers[0].blob.media_type.endswith("+zstd")
        assert rig.pull(f"{registry.host}/a/c:plain").image.id == pulled.image.id

    def test_an_image_without_layers(self, registry: FaultyRegistry, rig: Rig) -> None:
        """A configuration alone."""
        registry.put(image([]))
        assert rig.pull(f"{registry.host}/a/b:1").image.layers == ()

    def test_one_that_was_loaded_before(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """Nothing comes down again, layers are not spoken of; it gets the registry's names."""
        loaded = image(small.layers, tags=["mine:1"])
        list(rig.store.load(io.BytesIO(docker_archive([loaded]))))
        pushed = registry.put(small)
        pulled = rig.pull(f"{registry.host}/a/b:1")
        assert pulled.image.tags == (f"{registry.host}/a/b:1", "mine:1")
        assert pulled.image.digests == (f"{registry.host}/a/b@{pushed}",)
        assert registry.lines("GET .*/blobs/") == []
        assert rig.statuses() == ["Pulling from a/b"]

    def test_every_tag(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """However many pages they fill."""
        for tag in ("c", "a", "b"):
            registry.put(small, tag)
        assert rig.puller.tags(rig.request(f"{registry.host}/a/b")) == ["a", "b", "c"]
        assert len(registry.lines("tags/list")) == 3


class TestIndexes:
    """Images for several platforms."""

    @pytest.fixture
    def both(self, registry: FaultyRegistry, small: BuiltImage) -> tuple[BuiltImage, BuiltImage]:
        """Store two images and an index that has attestations as well."""
        arm = image([layer({"arm": "64"})], architecture="arm64", variant="v8")
        registry.put(small, "amd")
        registry.put(arm, "arm")
        unknown = {"os": "unknown", "architecture": "unknown"}
        registry.put_index(
            [
                registry.entry("amd", platform=unknown, annotations=ATTESTATION),
                registry.entry("arm", platform=ARM64),
                registry.entry("amd", platform=AMD64),
            ]
        )
        return small, arm

    def test_the_platform_decides(
        self, registry: FaultyRegistry, rig: Rig, both: tuple[BuiltImage, BuiltImage]
    ) -> None:
        """This host's, or the one that is asked for; the digest is the index's."""
        name = f"{registry.host}/a/b:1"
        wanted = Platform.parse("linux/amd64")
        assert rig.pull(name, platform=wanted).image.id == both[0].id
        arm = rig.pull(name, platform=Platform.parse("linux/arm64"))
        assert arm.image.id == both[1].id
        assert arm.digest == digest(registry.manifests["a/b", "1"][0])

    def test_none_fits(
        self, registry: FaultyRegistry, rig: Rig, both: tuple[BuiltImage, BuiltImage]
    ) -> None:
        """What there is is named."""
        del both
        with pytest.raises(NotFound, match="no matching manifest for linux/s390x") as caught:
            rig.pull(f"{registry.host}/a/b:1", platform=Platform.parse("linux/s390x"))
        assert "linux/amd64, linux/arm64/v8" in (caught.value.hint or "")

    def test_nested(
        self, registry: FaultyRegistry, rig: Rig, both: tuple[BuiltImage, BuiltImage]
    ) -> None:
        """An index may lead to an index, but not for ever."""
        registry.put_index([registry.entry("1")], "outer")
        wanted = Platform.parse("linux/amd64")
        assert rig.pull(f"{registry.host}/a/b:outer", platform=wanted).image.id == both[0].id
        name = "outer"
        for depth in range(6):
            registry.put_index([registry.entry(name)], f"deep{depth}")
            name = f"deep{depth}"
        with pytest.raises(ImageInvalid, match="without end"):
            rig.pull(f"{registry.host}/a/b:{name}", platform=wanted)

    def test_a_size_that_is_wrong(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """What the index says must hold."""
        registry.put(small, "amd")
        registry.put_index([registry.entry("amd", platform=AMD64) | {"size": 3}])
        with pytest.raises(ImageInvalid, match="but the index that names it says 3"):
            rig.pull(f"{registry.host}/a/b:1", platform=Platform.parse("linux/amd64"))

    def test_a_single_image_for_another_platform(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """It is taken, with a warning, as Docker does."""
        registry.put(small)
        rig.pull(f"{registry.host}/a/b:1", platform=Platform.parse("linux/arm64"))
        assert any(status.startswith("WARNING: image with ref") for status in rig.statuses())


class TestRefused:
    """What is no image for us."""

    def test_not_there(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """Docker's words."""
        registry.put(small)
        words = f"manifest for {registry.host}/a/b:2 not found: manifest unknown: manifest unknown"
        with pytest.raises(NotFound) as caught:
            rig.pull(f"{registry.host}/a/b:2")
        assert str(caught.value) == words
        with pytest.raises(NotFound, match=f"repository {registry.host}/no not found"):
            rig.puller.tags(rig.request(f"{registry.host}/no"))

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"schemaVersion": 1}, UnsupportedOperation, "schema 1"),
            ({"manifests": []}, ImageInvalid, "ambiguous"),
            ({"config": None}, ImageInvalid, "config"),
            (
                {"config": {"mediaType": "application/vnd.x", "digest": "sha256:" + "0" * 64}},
                UnsupportedOperation,
                "no container image",
            ),
            ({"layers": []}, ImageInvalid, "0 layers"),
        ],
    )
    def test_documents(  # noqa: PLR0917 - fixtures and parameters
        self,
        registry: FaultyRegistry,
        rig: Rig,
        small: BuiltImage,
        change: dict[str, Any],
        error: type[PannierError],
        words: str,
    ) -> None:
        """Manifests that break their format, or are of another kind."""
        import json  # noqa: PLC0415 - only here

        raw, _ = registry.manifests["a/b", registry.put(small)]
        document = json.loads(raw) | change
        registry.put_manifest({key: value for key, value in document.items() if value is not None})
        with pytest.raises(error, match=words):
            rig.pull(f"{registry.host}/a/b:1")
        assert rig.leftovers() == []
        assert rig.store.list(all=True) == ()

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("size", -5, "size"),
            ("size", 1 << 62, "the disk has room for only"),
            ("size", 7, "announces"),
            ("urls", ["https://elsewhere.example/x"], "foreign layer"),
        ],
    )
    def test_layers(  # noqa: PLR0917 - fixtures and parameters
        self,
        registry: FaultyRegistry,
        rig: Rig,
        small: BuiltImage,
        field: str,
        value: object,
        words: str,
    ) -> None:
        """Sizes that cannot be true, and layers that are elsewhere."""
        import json  # noqa: PLC0415 - only here

        document = json.loads(registry.manifests["a/b", registry.put(small)][0])
        document["layers"][1][field] = value
        registry.put_manifest(document)
        with pytest.raises(PannierError, match=words):
            rig.pull(f"{registry.host}/a/b:1")
        assert rig.storage.streams == {}

    def test_a_layer_of_another_diff_id(self, registry: FaultyRegistry, rig: Rig) -> None:
        """The blob is what the manifest says, but not what the configuration says."""
        import json  # noqa: PLC0415 - only here

        built = image([layer({"a": "b"})])
        document = json.loads(registry.manifests["a/b", registry.put(built)][0])
        other = gzip.compress(layer({"a": "c"}), mtime=0)
        document["layers"][0] |= registry.put_blob(other)
        registry.put_manifest(document)
        with pytest.raises(ImageInvalid, match="configuration says"):
            rig.pull(f"{registry.host}/a/b:1")
        assert rig.storage.streams == {}

    def test_no_names(self, rig: Rig) -> None:
        """What has a digest cannot be pushed."""
        with pytest.raises(InvalidRequest, match="digest reference"):
            rig.push(f"127.0.0.1:1/a@sha256:{'0' * 64}")


class TestTogether:
    """Several pulls at once."""

    def test_each_layer_comes_down_once(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """However many want it, and under several names."""
        registry.put(small)
        registry.put(small, "2", "c/d")
        results: list[str] = []

        def pull(name: str) -> None:
            results.append(rig.pull(f"{registry.host}/{name}").image.id)

        gate = registry.faults.stall = threading.Event()
        threads = [threading.Thread(target=pull, args=(name,)) for name in ("a/b:1", "c/d:2") * 4]
        for thread in threads:
            thread.start()
        threading.Timer(0.2, gate.set).start()
        for thread in threads:
            thread.join(30)
        assert results == [small.id] * 8
        layers = [
            line for line in registry.lines("GET .*/blobs/") if digest(small.config) not in line
        ]
        assert len(layers) == 2
        assert sorted(rig.storage.made) == sorted(set(rig.storage.made))
        assert rig.leftovers() == []

    def test_one_that_is_given_up_does_not_end_the_other(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """The download goes on for whoever still wants it."""
        registry.put(small)
        gate = registry.faults.stall = threading.Event()
        layers = [name for name, data in registry.blobs.items() if data != small.config]
        registry.faults.on = f"GET .*({'|'.join(layers)})"
        first, started = Cancellation(), threading.Event()
        outcome: list[object] = []

        def report(event: TransferEvent) -> None:
            rig.events.append(event)
            if [one.status for one in rig.events].count("Waiting") == len(layers):
                started.set()

        def pull(cancellation: Cancellation) -> None:
            request = rig.request(
                f"{registry.host}/a/b:1", cancellation=cancellation, report=report
            )
            try:
                outcome.append(rig.puller.pull(request).image.id)
            except Cancelled as error:
                outcome.append(error)

        one = threading.Thread(target=pull, args=(first,))
        one.start()
        while not registry.lines(registry.faults.on):
            threading.Event().wait(0.005)
        two = threading.Thread(target=pull, args=(Cancellation(),))
        two.start()
        assert started.wait(10)
        first.cancel()
        gate.set()
        one.join(30)
        two.join(30)
        assert {type(item) for item in outcome} == {Cancelled, str}
        assert len(registry.lines(registry.faults.on)) == 2


class TestGivenUp:
    """Pulls that are cancelled or killed, and the next one."""

    def test_what_came_is_kept(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """Whole blobs and the beginnings of others, across a restart; nothing else is."""
        registry.put(small)
        gate = registry.faults.stall = threading.Event()
        registry.faults.on = f"GET .*({'|'.join(set(registry.blobs) - {digest(small.config)})})"
        cancellation = Cancellation()

        def report(event: TransferEvent) -> None:
            if event.status == "Downloading":
                cancellation.cancel()
                gate.set()

        name = f"{registry.host}/a/b:1"
        with pytest.raises(Cancelled):
            rig.puller.pull(rig.request(name, cancellation=cancellation, report=report))
        assert rig.store.list(all=True) == ()
        kept = rig.leftovers()
        assert kept
        assert all(one.startswith("partial-sha256-") for one in kept)
        rig.restart()
        assert rig.leftovers() == kept
        registry.faults.stall = None
        registry.seen.clear()
        assert rig.pull(name).image.id == small.id
        assert registry.lines(f"GET .*{digest(small.config)}") == []  # it was whole
        assert rig.leftovers() == []

    def test_what_was_kept_may_be_damaged(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """After a power cut, say: then it is fetched again, and nobody has seen it."""
        registry.put(small)
        for name, data in registry.blobs.items():
            path = rig.store.content.ingest / f"partial-{name.replace(':', '-')}"
            path.write_bytes(bytes(len(data) // 2))
        assert rig.pull(f"{registry.host}/a/b:1").image.id == small.id
        assert rig.leftovers() == []

    def test_it_is_resumed_where_it_broke_off(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """By range."""
        registry.put(small)
        data = registry.blobs[max(registry.blobs, key=lambda name: len(registry.blobs[name]))]
        path = rig.store.content.ingest / f"partial-{digest(data).replace(':', '-')}"
        path.write_bytes(data[:1234])
        rig.pull(f"{registry.host}/a/b:1")
        asked = [seen.headers.get("Range") for seen in registry.seen if digest(data) in seen.path]
        assert asked == ["bytes=1234-"]

    def test_a_day_later_it_goes(self, rig: Rig) -> None:
        """And a prune takes it at once."""
        import os  # noqa: PLC0415 - only here

        from pannier.images.filters import ImageFilters  # noqa: PLC0415 - only here

        old = rig.store.content.ingest / f"partial-sha256-{'1' * 64}"
        new = rig.store.content.ingest / f"partial-sha256-{'2' * 64}"
        for path in (old, new):
            path.write_bytes(b"beginning")
        os.utime(old, (0, 0))
        rig.restart()
        assert rig.leftovers() == [new.name]
        rig.store.prune(ImageFilters(), users=list)
        assert rig.leftovers() == []

    def test_before_it_began(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """Nothing is asked."""
        registry.put(small)
        cancellation = Cancellation()
        cancellation.cancel()
        with pytest.raises(Cancelled):
            rig.puller.pull(rig.request(f"{registry.host}/a/b:1", cancellation=cancellation))
        assert registry.seen == []


class TestMirrors:
    """Other servers for a registry's content."""

    def options(self, *mirrors: str) -> RegistryOptions:
        """Return settings with mirrors for ``example.test``."""
        return RegistryOptions(
            {"example.test": RegistryTable(mirrors=tuple(f"http://{one}" for one in mirrors))},
            RegistriesTable(timeout=5),
        )

    def test_the_first_that_has_it(
        self, registry: FaultyRegistry, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """The name stays the registry's; the mirror gets nobody's credentials."""
        from pannier.images.registry.auth import Credentials  # noqa: PLC0415 - only here

        registry.put(small)
        rig = make_rig(options=self.options("127.0.0.1:1", registry.host))
        pulled = rig.pull("example.test/a/b:1", Credentials("jo", "secret"))
        assert pulled.image.tags == ("example.test/a/b:1",)
        assert all("Authorization" not in seen.headers for seen in registry.seen)

    def test_what_there_is(
        self, registry: FaultyRegistry, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """A mirror's tags and descriptions count, too: it may be all that can be reached."""
        registry.put(small)
        rig = make_rig(options=self.options("127.0.0.1:1", registry.host))
        request = rig.request("example.test/a/b:1")
        assert rig.puller.tags(request) == ["1"]
        described = describe_at(rig.options, request)
        assert [str(one) for one in described.platforms] == ["linux/amd64"]

    def test_what_a_mirror_lacks(
        self, registry: FaultyRegistry, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """Where the registry cannot be reached it is not there; a broken mirror says nothing."""
        registry.put(small)
        rig = make_rig(options=self.options(registry.host, "127.0.0.1:1"))
        said = rf"No such image: .*a/b:2: the mirror {registry.host} has none, and .* reached"
        with pytest.raises(NotFound, match=said):
            rig.pull("example.test/a/b:2")
        rig = make_rig(options=self.options("127.0.0.1:1"))
        with pytest.raises(PannierError, match=r"example\.test cannot be reached"):
            rig.pull("example.test/a/b:2")

    def test_a_mirror_that_lies(
        self, registry: FaultyRegistry, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """The registry itself is asked (here: in vain, as it does not exist)."""
        registry.put(small)
        registry.faults.flip = True
        rig = make_rig(options=self.options(registry.host))
        with pytest.raises(PannierError, match=r"example\.test cannot be reached"):
            rig.pull("example.test/a/b:1")
        assert rig.storage.streams == {}


def test_progress_is_throttled() -> None:
    """Ten messages a second and layer at most; what is said once is always passed on."""
    events: list[TransferEvent] = []
    throttle = Throttle(events.append)
    for current in range(1, 1001):
        throttle(TransferEvent("Downloading", "a", current, 1000))
        throttle(TransferEvent("Downloading", "b", current, 1000))
    throttle(TransferEvent("Pull complete", "a"))
    assert 3 <= len(events) < 30
    assert TransferEvent("Downloading", "a", 1000, 1000) in events
    assert events[-1].status == "Pull complete"
