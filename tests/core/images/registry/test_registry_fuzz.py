"""Answers of registries that may be anything: understood, or refused with an error of ours."""

from __future__ import annotations

import contextlib
import io
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from pannier.errors import PannierError
from pannier.images.oci import OCI_INDEX, OCI_MANIFEST
from pannier.images.reference import parse_reference
from pannier.images.registry.auth import (
    ANONYMOUS,
    Authorizer,
    Challenge,
    Credentials,
    parse_challenges,
)
from pannier.images.registry.choosing import describe
from pannier.images.registry.client import Repository
from pannier.images.registry.listing import SearchQuery, pages, search
from pannier.images.registry.refusals import LONGEST_PAUSE, retry_after
from pannier.images.registry.settings import Endpoint, RegistryOptions
from pannier.images.registry.transport import Request, Transport
from support.images import digest

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "registry.test"
TOKEN = st.text("abcXYZ019-_.", min_size=1, max_size=8)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), "x", digest(b"x"), OCI_INDEX, OCI_MANIFEST])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


class TestChallenges:
    """WWW-Authenticate."""

    @given(st.text(max_size=60) | st.text('Bearer basic="\\\\,= realm', max_size=60))
    def test_any_header_is_read(self, header: str) -> None:
        """What is malformed in it is passed over."""
        for challenge in parse_challenges(header):
            assert challenge.scheme == challenge.scheme.lower()

    @pytest.mark.parametrize("filling", [" ", ", ", "a", 'a="', "\\", "a ="])
    def test_a_long_header_is_read_at_once(self, filling: str) -> None:
        """A registry that means ill cannot hang the daemon with as long a line as HTTP takes."""
        text = filling * (60_000 // len(filling))
        assert parse_challenges(f"={text}= Basic x=y")[-1] == Challenge("basic", {"x": "y"})

    @given(st.lists(st.tuples(TOKEN, st.dictionaries(TOKEN, st.text(max_size=12), min_size=1))))
    def test_what_is_written_is_read(self, challenges: list[tuple[str, dict[str, str]]]) -> None:
        """Several challenges in one header, with anything in quotes."""
        header = ", ".join(
            f"{scheme} " + ", ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
            for scheme, fields in challenges
        )
        expected = []
        for scheme, fields in challenges:
            lower: dict[str, str] = {}
            for key, value in fields.items():
                lower[key.lower()] = value
            expected.append(Challenge(scheme.lower(), lower))
        assert parse_challenges(header) == expected

    @example("", {"token": "t", "expires_in": 10**400}, ANONYMOUS)
    @example("", {"token": "t", "expires_in": math.nan}, ANONYMOUS)
    @given(
        st.text(max_size=20),
        st.fixed_dictionaries({"token": st.just("t"), "expires_in": ANYTHING})
        | st.dictionaries(st.sampled_from(["token", "access_token", "expires_in"]), ANYTHING)
        | ANYTHING,
        st.sampled_from([ANONYMOUS, Credentials("jo", "x"), Credentials(identity_token="t")]),
    )
    def test_any_token_server(self, realm: str, answer: object, credentials: Credentials) -> None:
        """A token without sense is an error, as is a server that is none."""
        raw = json.dumps(answer).encode()
        for name in (realm, "https://token.test/x?y=z"):
            authorizer = Authorizer(credentials, lambda *_: (200, raw))
            authorizer.learn(f"Bearer realm={_quoted(name)},service=s", "repository:a:pull")
            with contextlib.suppress(PannierError):
                header = authorizer.header("repository:a:pull")
                assert header is None or header.startswith("Bearer ")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@example("Wed, 21 Oct 2015 07:2999999999999999999999:00 GMT")
@example("Wed, 21 Oct 99999999999 07:28:00 GMT")
@given(st.text(max_size=40) | st.integers().map(str) | st.datetimes().map(str) | st.none())
def test_any_pause_is_bounded(value: str | None) -> None:
    """Retry-After is seconds or a date, and at most half a minute."""
    pause = retry_after(value, 1.0)
    assert 0 <= pause <= LONGEST_PAUSE
    assert not math.isnan(pause)


class _Canned(Transport):
    """A transport whose server always says the same."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(Endpoint(HOST, ("https",)), RegistryOptions())
        self.canned = status, headers, body

    def _send(self, request: Request, url: str, authorization: str | None) -> Any:
        del url, authorization
        status, headers, body = self.canned
        if request.path.endswith("/v2/"):
            status, headers, body = 200, {}, b""
        return urllib3.HTTPResponse(
            io.BytesIO(body), headers, status, preload_content=False, decode_content=False
        )


_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("Link", "Location", "Content-Range", "Content-Length", "Content-Type"),
            *("Docker-Content-Digest", "OCI-Chunk-Min-Length", "WWW-Authenticate"),
        ]
    ),
    st.sampled_from(
        [
            *("", "0", "-1", "5", "99999999999999999999", "bytes 0-4/5", "bytes 9-1/*", "bytes x"),
            *('</v2/_catalog?n=1>; rel="next"', '<//[>; rel="next"', "<", '<x>; rel="next"'),
            *("//[::1", "http://[bad/x", "/v2/up?x=1", "https://else.test:99999/u", "?"),
            *('Bearer realm="x"', "Basic", OCI_MANIFEST, OCI_INDEX, digest(b"x"), "\u00b2"),
        ]
    )
    | st.text(max_size=10),
    max_size=4,
)
_BODIES = st.binary(max_size=30) | ANYTHING.map(lambda value: json.dumps(value).encode())
_STATUSES = st.sampled_from([200, 201, 202, 204, 206, 307, 400, 401, 403, 404, 405, 416])


def _read_blob(repository: Repository) -> None:
    with (
        repository.blob(digest(b"x"), 2) as stream,
        contextlib.suppress(urllib3.exceptions.HTTPError),
    ):
        while stream.read(16):
            pass


def _upload(repository: Repository) -> None:
    upload = repository.begin_upload()
    repository.send_chunk(upload, 0, b"x")
    repository.finish_upload(upload, digest(b"x"), 1, lambda: [b"x"])


OPERATIONS: list[Callable[[Repository], object]] = [
    _read_blob,
    _upload,
    Repository.tags,
    lambda repository: repository.mount(digest(b"x"), "other"),
    lambda repository: repository.has_blob(digest(b"x")),
    lambda repository: repository.manifest("1"),
    lambda repository: repository.manifest(digest(b"x")),
    lambda repository: describe(repository, parse_reference(f"{HOST}/a:1")),
    lambda repository: repository.put_manifest("1", b"{}", OCI_MANIFEST),
    lambda repository: list(
        pages(repository.transport, "_catalog", "registry:catalog:*", repository.cancellation)
    ),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=range(len(OPERATIONS)))
@given(status=_STATUSES, headers=_HEADERS, body=_BODIES)
def test_any_answer_is_understood_or_refused(
    operation: Callable[[Repository], object], status: int, headers: dict[str, str], body: bytes
) -> None:
    """Whatever its status, headers and body; never another error than ours."""
    headers = {
        name: value.encode("latin-1", "replace").decode("latin-1").replace("\n", " ")
        for name, value in headers.items()
    }
    transport = _Canned(status, headers, body)
    try:
        with contextlib.suppress(PannierError):
            operation(Repository(transport, "a"))
    finally:
        transport.close()


@given(answer=ANYTHING | st.fixed_dictionaries({"results": st.lists(ANYTHING, max_size=3)}))
def test_any_search_result_is_understood_or_refused(answer: object) -> None:
    """Of the search's API."""
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PannierError):
        patch.setattr(
            "pannier.images.registry.listing.Transport",
            lambda *_, **__: _Canned(200, {}, json.dumps(answer).encode()),
        )
        for found in search(RegistryOptions(), SearchQuery("registry.test/x")):
            assert isinstance(found.stars, int)
