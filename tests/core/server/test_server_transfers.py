"""Pull, push, search, log-in: what clients send, and the messages that they are answered with."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.images.oci import Platform
from pannier.images.registry.auth import ANONYMOUS, Credentials
from pannier.server.transfers import decode_credentials
from support.fake_transfers import DIGEST

if TYPE_CHECKING:
    from support.api_server import Answer, ApiServer
    from support.fake_engine import FakeEngine


def header(**fields: str) -> dict[str, str]:
    """Return the header that clients log in with."""
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def messages(answer: Answer) -> list[dict[str, Any]]:
    """Return a stream's messages."""
    return [json.loads(line) for line in answer.body.splitlines()]


class TestPull:
    """``POST /images/create?fromImage=``."""

    def test_the_stream_is_dockers(self, server: ApiServer) -> None:
        """Layers with their progress, the digest, and what has become of the image."""
        answer = server.post("/images/create?fromImage=busybox&tag=1")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert messages(answer) == [
            {"status": "Pulling from library/busybox", "id": "1"},
            {
                "status": "Downloading",
                "id": "aaaaaaaaaaaa",
                "progressDetail": {"current": 5_000_000, "total": 20_000_000},
                "progress": "[============>" + " " * 37 + "]  5MB/20MB",
            },
            {"status": "Pull complete", "id": "aaaaaaaaaaaa", "progressDetail": {}},
            {"status": f"Digest: {DIGEST}"},
            {"status": "Status: Downloaded newer image for busybox:1"},
        ]

    @pytest.mark.parametrize(
        ("query", "reference", "every"),
        [
            ("fromImage=busybox&tag=1", "docker.io/library/busybox:1", False),
            ("fromImage=busybox:1", "docker.io/library/busybox:1", False),
            ("fromImage=busybox", "docker.io/library/busybox", True),
            (f"fromImage=a.b/c&tag={DIGEST}", f"a.b/c@{DIGEST}", False),
            (f"fromImage=a.b/c@{DIGEST}", f"a.b/c@{DIGEST}", False),
        ],
    )
    def test_what_is_asked_for(
        self, server: ApiServer, engine: FakeEngine, query: str, reference: str, every: bool
    ) -> None:
        """A tag or digest beside the name or in it; without one, every tag."""
        assert server.post(f"/images/create?{query}").status == 200
        assert engine.transfers.calls == [("pull", reference, ANONYMOUS, None, every)]

    def test_platforms_are_words_or_objects(self, server: ApiServer, engine: FakeEngine) -> None:
        """As older and newer clients send them."""
        server.post("/images/create?fromImage=a:1&platform=linux/arm64")
        server.post(
            '/images/create?fromImage=a:1&platform={"os":"linux","architecture":"arm",'
            '"variant":"v7"}'
        )
        platforms = [call[3] for call in engine.transfers.calls]
        assert platforms == [Platform("linux", "arm64"), Platform("linux", "arm", "v7")]

    def test_imports_from_the_network(self, server: ApiServer, engine: FakeEngine) -> None:
        """Where from, how far, of how much where that is known; the image; what goes wrong."""
        url = "http://example.com/root.tar"
        answer = server.post(f"/images/create?fromSrc={url}&repo=deb&message=hi")
        image = engine.images.image.id
        assert messages(answer) == [
            {"status": f"Downloading from {url}"},
            {
                "status": "Importing",
                "progressDetail": {"current": 500, "total": 1000},
                "progress": "[" + "=" * 25 + ">" + " " * 24 + "]  500B/1kB",
            },
            {"status": "Importing", "progressDetail": {"current": 1500}, "progress": "   1.5kB"},
            {"status": image},
        ]
        [(source, request)] = engine.transfers.calls
        assert (source, request.name.familiar, request.message) == (url, "deb:latest", "hi")
        assert engine.images.calls[-1] == ("imported", image, url)
        assert server.post(f"/images/create?fromSrc={url}/absent").status == 404
        answer = server.post(f"/images/create?fromSrc={url}/broken")
        assert answer.status == 200
        assert messages(answer)[-1]["error"] == "the download broke off"

    def test_errors_before_the_stream_have_their_status(self, server: ApiServer) -> None:
        """404 with Docker's words, 400 for what is no name."""
        answer = server.post("/images/create?fromImage=absent:1")
        assert (answer.status, answer.message) == (404, "pull access denied for absent")
        assert server.post("/images/create?fromImage=A").status == 400
        identity = "a" * 64
        assert server.post(f"/images/create?fromImage={identity}").status == 400

    def test_errors_within_the_stream_are_messages(self, server: ApiServer) -> None:
        """The status is out already."""
        answer = server.post("/images/create?fromImage=broken:1")
        assert answer.status == 200
        assert messages(answer)[-1] == {
            "errorDetail": {"message": "it broke off"},
            "error": "it broke off",
            "hint": "try again",
        }

    def test_a_client_that_goes_gives_the_pull_up(
        self, server: ApiServer, engine: FakeEngine
    ) -> None:
        """Nobody is left to want it."""
        with server.connect() as client:
            client.sendall(
                b"POST /images/create?fromImage=endless:1 HTTP/1.1\r\nHost: x\r\n"
                b"Content-Length: 0\r\n\r\n"
            )
            received = b""
            while b"Downloading" not in received:
                received += client.recv(4096)
            assert not engine.transfers.given_up.is_set()
        assert engine.transfers.given_up.wait(10)


class TestCredentials:
    """The header X-Registry-Auth."""

    def test_fields(self, server: ApiServer, engine: FakeEngine) -> None:
        """A name and password, or tokens."""
        given = [
            header(username="jo", password="secret", serveraddress="a.b"),
            header(identitytoken="refresh"),
            header(registrytoken="bearer"),
            header(auth=base64.b64encode(b"jo:se:cret").decode()),
        ]
        for headers in given:
            server.request("POST", "/images/create?fromImage=a:1", headers=headers)
        assert [call[2] for call in engine.transfers.calls] == [
            Credentials("jo", "secret"),
            Credentials(identity_token="refresh"),
            Credentials(registry_token="bearer"),
            Credentials("jo", "se:cret"),
        ]

    @pytest.mark.parametrize("value", ["", "????", "bm8ganNvbg", "W10="])
    def test_what_is_malformed_counts_as_nothing(
        self, server: ApiServer, engine: FakeEngine, value: str
    ) -> None:
        """As with Docker: the registry will say whether it needs more."""
        headers = {"X-Registry-Auth": value}
        assert server.request("POST", "/images/create?fromImage=a:1", headers=headers).status == 200
        assert engine.transfers.calls[0][2] == ANONYMOUS

    def test_without_padding_or_with_the_standard_alphabet(
        self, server: ApiServer, engine: FakeEngine
    ) -> None:
        """Clients disagree on both."""
        text = json.dumps({"username": "jo", "password": "\u00ff\u00fe?>~"}).encode()
        for value in (
            base64.urlsafe_b64encode(text).rstrip(b"="),
            base64.b64encode(text),
        ):
            headers = {"X-Registry-Auth": value.decode()}
            server.request("POST", "/images/create?fromImage=a:1", headers=headers)
        assert {call[2] for call in engine.transfers.calls} == {
            Credentials("jo", "\u00ff\u00fe?>~")
        }

    @given(
        st.text(max_size=20)
        | st.dictionaries(
            st.sampled_from(["username", "Password", "auth", "identitytoken", "registrytoken"]),
            st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["am86eA==", "/w=="]),
        ).map(lambda fields: base64.urlsafe_b64encode(json.dumps(fields).encode()).decode())
    )
    def test_any_header_is_read(self, text: str) -> None:
        """Whatever a client sends; of what is malformed, nothing is taken."""
        found = decode_credentials(text)
        assert isinstance(found.username, str)
        assert isinstance(found.password, str)

    def test_a_password_is_not_shown(self) -> None:
        """Neither in a log nor in a traceback."""
        shown = repr(Credentials("jo", "secret", "refresh", "bearer"))
        assert "jo" in shown
        assert not {word for word in ("secret", "refresh", "bearer") if word in shown}


class TestPush:
    """``POST /images/{name}/push``."""

    def test_the_stream_is_dockers(self, server: ApiServer, engine: FakeEngine) -> None:
        """It ends with the digest, for readers and for programs."""
        headers = header(username="jo", password="secret")
        answer = server.request("POST", "/images/a.b/c/push?tag=1", headers=headers)
        assert answer.status == 200
        assert messages(answer) == [
            {"status": "The push refers to repository [a.b/c]"},
            {"status": "Pushed", "id": "aaaaaaaaaaaa", "progressDetail": {}},
            {"status": f"1: digest: {DIGEST} size: 528"},
            {"progressDetail": {}, "aux": {"Tag": "1", "Digest": DIGEST, "Size": 528}},
        ]
        assert engine.transfers.calls == [("push", "a.b/c:1", Credentials("jo", "secret"))]

    def test_an_image_that_is_not_here(self, server: ApiServer) -> None:
        """In Docker's words."""
        for name, words in {
            "absent": "An image does not exist locally with the tag: absent",
            "busybox": "tag does not exist: busybox:absent",
        }.items():
            answer = server.post(f"/images/{name}/push?tag=absent")
            assert messages(answer)[-1]["errorDetail"] == {"message": words}

    def test_an_image_without_any_tag(self, server: ApiServer) -> None:
        """What no image is called is said within the stream, as when a tag was asked for."""
        answer = server.post("/images/nothing.here/absent/push")
        assert answer.status == 200
        words = "An image does not exist locally with the tag: nothing.here/absent"
        assert messages(answer)[-1]["errorDetail"] == {"message": words}


class TestSearch:
    """``GET /images/search``."""

    def test_answer_and_question(self, server: ApiServer, engine: FakeEngine) -> None:
        """Docker's fields; the filters are understood."""
        filters = json.dumps({"stars": ["3"], "is-official": ["true"]}, separators=(",", ":"))
        answer = server.get(f"/images/search?term=bu&limit=5&filters={filters}")
        assert answer.json == [
            {
                "star_count": 7,
                "is_official": True,
                "name": "busybox",
                "is_automated": False,
                "description": "small",
            }
        ]
        query = engine.transfers.calls[0][1]
        assert (query.term, query.limit, query.stars, query.official) == ("bu", 5, 3, True)

    @pytest.mark.parametrize(
        "query", ["", "term=x&filters={%22stars%22:[%22many%22]}", "term=x&filters={%22a%22:[]}"]
    )
    def test_nonsense(self, server: ApiServer, query: str) -> None:
        """400."""
        assert server.get(f"/images/search?{query}").status == 400


class TestDescribe:
    """``GET /distribution/{name}/json``."""

    def test_answer(self, server: ApiServer) -> None:
        """The descriptor, and the platforms there are."""
        answer = server.get("/distribution/a.b/c:1/json")
        assert answer.json["Descriptor"]["digest"] == DIGEST
        assert answer.json["Platforms"] == [
            {"architecture": "arm64", "os": "linux", "variant": "v8"}
        ]
        assert server.get("/distribution/absent/json").status == 404
        assert server.get("/distribution/secret/json").status == 401  # a log-in is missing


class TestLogIn:
    """``POST /auth``."""

    @pytest.mark.parametrize(
        ("address", "registry"),
        [
            ("https://index.docker.io/v1/", "docker.io"),
            ("", "docker.io"),
            ("a.b:5000", "a.b:5000"),
            ("https://a.b:5000/v2/", "a.b:5000"),
        ],
    )
    def test_servers(
        self, server: ApiServer, engine: FakeEngine, address: str, registry: str
    ) -> None:
        """However clients write them."""
        body = {"username": "jo", "password": "right", "serveraddress": address}
        answer = server.post("/auth", body)
        assert (answer.status, answer.json["Status"]) == (200, "Login Succeeded")
        assert engine.transfers.calls == [("log_in", registry, Credentials("jo", "right"))]

    def test_refused(self, server: ApiServer) -> None:
        """401, as Docker's clients expect."""
        body = {"username": "jo", "password": "wrong", "serveraddress": "a.b"}
        answer = server.post("/auth", body)
        assert answer.status == 401
        assert "incorrect username or password" in answer.message
