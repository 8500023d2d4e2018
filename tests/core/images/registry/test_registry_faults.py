"""Registries and networks that misbehave: what is tried again, what is refused, what is kept."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING

import pytest

from pannier.config import RegistriesTable
from pannier.errors import Forbidden, ImageInvalid, NotFound, PannierError
from pannier.images.registry.auth import Credentials
from pannier.images.registry.refusals import RegistryError, retry_after
from pannier.images.registry.settings import RegistryOptions
from support.registry import PASSWORD, USER, Faults, FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import BuiltImage
    from support.registry_rig import Rig

JO = Credentials(USER, PASSWORD)


@pytest.fixture
def other() -> Iterator[FaultyRegistry]:
    """Return a second server."""
    running = FaultyRegistry()
    yield running
    running.close()


def pulls(registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
    """Check that the image comes down whole although..."""
    registry.put(small)
    assert rig.pull(f"{registry.host}/a/b:1").image.id == small.id
    assert sorted(rig.storage.streams.values()) == sorted(small.layers)
    assert rig.leftovers() == []


def fails(
    registry: FaultyRegistry, rig: Rig, small: BuiltImage, error: type[PannierError], words: str
) -> None:
    """Check that the pull fails, with an explanation, and that nothing of it can be used."""
    registry.put(small)
    with pytest.raises(error, match=words):
        rig.pull(f"{registry.host}/a/b:1")
    assert rig.storage.streams == {}
    assert rig.store.list(all=True) == ()
    assert list(rig.store.content.digests()) == []


class TestConnections:
    """Cut, slow, not there."""

    @pytest.mark.parametrize("every", [1, 7, 1000, 65_536])
    def test_cut_at_every_kth_byte(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, every: int
    ) -> None:
        """It goes on from there, by range."""
        registry.faults = Faults(cut_every=every, cuts=40)
        pulls(registry, rig, small)
        assert any("Range" in seen.headers for seen in registry.seen)

    def test_a_server_that_ignores_ranges(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """What is there already is passed over."""
        registry.faults = Faults(cut_every=1000, cuts=2, ignore_range=True)
        pulls(registry, rig, small)

    def test_one_that_never_gets_on(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """Tries end where nothing comes any more."""
        registry.faults = Faults(cut_every=1000, ignore_range=True)
        fails(registry, rig, small, RegistryError, "stopped sending sha256:[0-9a-f]+ at [0-9]+ of")

    @pytest.mark.parametrize(
        ("times", "whole"), [(3, True), (4, False)], ids=["passing", "lasting"]
    )
    def test_a_manifest_that_breaks_off(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, times: int, whole: bool
    ) -> None:
        """It is asked for again, and not for ever."""
        cut = (200, {"Content-Length": "500", "Connection": "close"})
        registry.faults = Faults(statuses=[cut] * times, on="GET .*/manifests/")
        if whole:
            pulls(registry, rig, small)
        else:
            fails(registry, rig, small, RegistryError, "broke off within the manifest 1")

    def test_nobody_there(self, rig: Rig) -> None:
        """A hint tells what to look at."""
        with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1 cannot be reached") as caught:
            rig.pull("127.0.0.1:1/a/b:1")
        assert caught.value.hint

    def test_silence(
        self, registry: FaultyRegistry, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """A connection without a byte for the configured time counts as broken."""
        import threading  # noqa: PLC0415 - only here

        registry.faults.stall = threading.Event()
        rig = make_rig(options=RegistryOptions(common=RegistriesTable(timeout=0.05)))
        try:
            fails(registry, rig, small, RegistryError, "stopped sending.*timed out")
        finally:
            registry.faults.stall.set()


class TestContent:
    """What comes is not what was asked for."""

    def test_another_digest(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """Refused, and not kept for the next pull either."""
        registry.faults.flip = True
        fails(registry, rig, small, ImageInvalid, "content of digest|broken")
        registry.faults.flip = False
        pulls(registry, rig, small)

    @pytest.mark.parametrize("bytes_more", [1, 100_000, -1])
    def test_another_length(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, bytes_more: int
    ) -> None:
        """Seen before anything is written."""
        registry.faults.stretch = bytes_more
        fails(registry, rig, small, ImageInvalid, "announces")

    def test_without_end(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """Cut off at the size that the manifest says."""
        registry.faults.endless = True
        fails(registry, rig, small, ImageInvalid, "sent more than the")

    def test_an_endless_manifest(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """Four MiB are enough for one."""
        registry.put(small)
        registry.manifests["a/b", "1"] = b" " * (5 << 20), "application/json"
        with pytest.raises(ImageInvalid, match="larger than 4 MiB"):
            rig.pull(f"{registry.host}/a/b:1")


class TestStatuses:
    """Answers that pass."""

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    @pytest.mark.parametrize("on", ["GET .*/blobs/", "GET .*/manifests/", "GET /v2/$"])
    def test_tried_again(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, status: int, on: str
    ) -> None:
        """With growing pauses."""
        registry.faults = Faults(statuses=[(status, {})] * 2, on=on)
        pulls(registry, rig, small)

    def test_retry_after_is_obeyed(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """In seconds; not a try earlier."""
        registry.faults = Faults(statuses=[(429, {"Retry-After": "1"})], on="GET .*/manifests/")
        begun = time.monotonic()
        pulls(registry, rig, small)
        assert time.monotonic() - begun >= 1

    def test_retry_after_in_all_its_forms(self) -> None:
        """Seconds, dates, nonsense; never for ever."""
        assert retry_after("3", 1) == 3
        assert retry_after("99999999", 1) == 30
        soon = email.utils.formatdate(time.time() + 10, usegmt=True)
        assert 7 < retry_after(soon, 1) <= 10
        assert retry_after(email.utils.formatdate(0, usegmt=True), 1) == 0
        assert retry_after("soon", 1.5) == 1.5
        assert retry_after(None, 2.5) == 2.5

    def test_not_for_ever(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """Then the registry's answer is the error."""
        registry.faults = Faults(statuses=[(503, {})] * 50, on="GET .*/manifests/")
        fails(registry, rig, small, RegistryError, "answered 503 to GET")
        assert len(registry.lines("manifests")) == 6

    def test_what_does_not_pass_is_not_tried_again(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """A client's error stays one."""
        registry.faults = Faults(statuses=[(400, {})], on="GET .*/manifests/")
        fails(registry, rig, small, RegistryError, "answered 400")

    def test_no_registry(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """A web server that has no /v2/."""
        registry.faults = Faults(statuses=[(404, {})] * 9, on="GET /v2/$")
        fails(registry, rig, small, RegistryError, "is no registry")


class TestRedirects:
    """To somewhere else."""

    def test_credentials_do_not_follow(
        self, registry: FaultyRegistry, other: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """A blob may come from a storage service, which need not know who asks."""
        registry.auth = "basic"
        registry.put(small)
        other.put(small)
        registry.faults.redirect = f"http://{other.host}"
        assert rig.pull(f"{registry.host}/a/b:1", JO).image.id == small.id
        assert len(other.lines("blobs")) == 3
        assert all("Authorization" not in seen.headers for seen in other.seen)
        assert all("Authorization" in seen.headers for seen in registry.seen[1:])

    def test_in_a_circle(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """It ends."""
        registry.faults = Faults(redirect=f"http://{registry.host}", on="GET .*/manifests/")
        fails(registry, rig, small, RegistryError, "redirects without end")

    @pytest.mark.parametrize(
        "target", ["http://registry.example", "ftp://127.0.0.1", "file:///etc"]
    )
    def test_to_what_is_not_safe(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, target: str
    ) -> None:
        """Neither unencrypted across a network, nor another protocol."""
        registry.faults = Faults(redirect=target, on="GET .*/manifests/")
        fails(registry, rig, small, Forbidden, "not encrypted")


class TestBasic:
    """A name and a password."""

    def test_right_wrong_and_none(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """What is not for us is told as Docker does."""
        registry.auth = "basic"
        registry.put(small)
        name = f"{registry.host}/a/b:1"
        for credentials in (None, Credentials(USER, "wrong")):
            with pytest.raises(NotFound, match="pull access denied for") as caught:
                rig.pull(name, credentials)
            assert "may require 'docker login': unauthorized" in str(caught.value)
            assert "pannier login" in (caught.value.hint or "")
        assert rig.pull(name, JO).image.id == small.id


class TestBearer:
    """Tokens of a token server."""

    @pytest.mark.parametrize("credentials", [None, JO, Credentials(identity_token="refresh")])
    def test_fetched_once(
        self,
        registry: FaultyRegistry,
        rig: Rig,
        small: BuiltImage,
        credentials: Credentials | None,
    ) -> None:
        """For the repository, by whoever needs it first."""
        registry.auth = "bearer"
        registry.put(small)
        assert rig.pull(f"{registry.host}/a/b:1", credentials).image.id == small.id
        assert len(registry.lines("/token")) == 1

    @pytest.mark.parametrize("uses", [1, 2])
    def test_expiry_in_the_midst(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage, uses: int
    ) -> None:
        """A new one is fetched, and the request made again."""
        registry.auth = "bearer"
        registry.token_uses = uses
        registry.faults = Faults(cut_every=50_000, cuts=3)
        registry.put(small)
        assert rig.pull(f"{registry.host}/a/b:1").image.id == small.id
        assert len(registry.lines("/token")) > 2

    def test_renewed_before_it_expires(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """By what the token server says of its life: nothing is refused then."""
        registry.auth = "bearer"
        registry.announced_seconds = 0
        registry.put(small)
        rig.pull(f"{registry.host}/a/b:1")
        assert len(registry.lines("/token")) >= 3

    def test_refused(self, registry: FaultyRegistry, rig: Rig, small: BuiltImage) -> None:
        """By the token server."""
        registry.auth = "bearer"
        registry.put(small)
        with pytest.raises(NotFound, match="incorrect username or password"):
            rig.pull(f"{registry.host}/a/b:1", Credentials(USER, "wrong"))

    def test_a_registry_token_is_used_as_it_is(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """Without asking a token server."""
        registry.auth = "bearer"
        registry.tokens["given"] = 100, "repository:a/b:pull"
        registry.put(small)
        name = f"{registry.host}/a/b:1"
        assert rig.pull(name, Credentials(registry_token="given")).image.id == small.id
        assert registry.lines("/token") == []
        with pytest.raises(NotFound, match="pull access denied"):
            rig.pull(name, Credentials(registry_token="false"))

    def test_its_server_may_stumble(
        self, registry: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """A passing failure of it is tried again as well."""
        registry.auth = "bearer"
        registry.faults = Faults(statuses=[(503, {})], on="/token")
        pulls(registry, rig, small)

    def test_its_redirects_get_no_credentials(
        self, registry: FaultyRegistry, other: FaultyRegistry, rig: Rig, small: BuiltImage
    ) -> None:
        """Neither the password in a header, nor the refresh token in a body."""
        registry.auth = "bearer"
        registry.put(small)
        there = {"Location": f"http://{other.host}/token"}
        registry.faults = Faults(statuses=[(307, there)], on="/token")
        with pytest.raises(Forbidden, match="credentials were not sent"):
            rig.pull(f"{registry.host}/a/b:1", Credentials(identity_token="refresh"))
        assert other.seen == []
        registry.faults = Faults(statuses=[(307, there)], on="/token")
        rig.pull(f"{registry.host}/a/b:1", JO)
        assert len(other.lines("/token")) == 1
        assert all("Authorization" not in seen.headers for seen in other.seen)
