"""The operations of the OCI distribution specification on one repository."""

from __future__ import annotations

import contextlib
import hashlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pannier.errors import ImageInvalid, NotFound
from pannier.images import oci
from pannier.images.registry.auth import scope_of
from pannier.images.registry.transport import RegistryError, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import urllib3

__all__ = ["Repository", "search"]

_MANIFEST_LIMIT = 4 << 20  # distribution specification: at least this much must be accepted
_LIST_LIMIT = 16 << 20
_PAGES = 1000
_MANIFEST_TYPES = (
    oci.OCI_MANIFEST,
    oci.OCI_INDEX,
    oci.DOCKER_MANIFEST,
    oci.DOCKER_INDEX,
    # Asked for so that a registry that has nothing else says so, to be refused with a hint.
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_ACCEPT = ", ".join(_MANIFEST_TYPES)


class Repository:
    """One repository at one server.

    :param name: its path there, ``library/busybox``.
    :param push: ask for the right to push, too.
    """

    def __init__(self, transport: Transport, name: str, *, push: bool = False) -> None:
        self.transport = transport
        self.name = name
        actions = ("pull", "push") if push else ("pull",)
        self._scope = scope_of(name, *actions)

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """Return a manifest's or index's bytes and media type.

        :param reference: a tag or a digest; the content of a digest is verified.
        :raises NotFound: the repository has no such manifest.
        :raises ImageInvalid: it is too large, or not what the digest says.
        """
        path = f"{self.name}/manifests/{reference}"
        headers = {"Accept": _ACCEPT}
        with self.transport.request("GET", path, scope=self._scope, headers=headers) as response:
            raw = _read(response, _MANIFEST_LIMIT, f"the manifest {reference}")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if ":" in reference:
            _verify(raw, reference)
        return raw, media_type

    def manifest_exists(self, digest: str) -> bool:
        """Whether the repository has a manifest of this digest."""
        path = f"{self.name}/manifests/{digest}"
        with (
            contextlib.suppress(NotFound),
            self.transport.request("HEAD", path, scope=self._scope, headers={"Accept": _ACCEPT}),
        ):
            return True
        return False

    def put_manifest(self, reference: str, raw: bytes, media_type: str) -> None:
        """Store a manifest under a tag or its digest."""
        path = f"{self.name}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        with self.transport.request(
            "PUT", path, scope=self._scope, headers=headers, body=raw, expected=(201, 202)
        ):
            return

    @contextlib.contextmanager
    def blob(self, digest: str, offset: int = 0) -> Iterator[tuple[urllib3.BaseHTTPResponse, int]]:
        """Open a blob for reading from *offset* on; give the response and where it really begins.

        A server that ignores the range begins at 0.

        :raises NotFound: the repository has no such blob.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self.transport.request(
            "GET",
            f"{self.name}/blobs/{digest}",
            scope=self._scope,
            headers=headers,
            expected=(200, 206),
        ) as response:
            partial = response.status == HTTPStatus.PARTIAL_CONTENT
            yield response, offset if partial else 0

    def blob_size(self, digest: str) -> int | None:
        """Return the size of a blob that the repository has, or None."""
        path = f"{self.name}/blobs/{digest}"
        with (
            contextlib.suppress(NotFound),
            self.transport.request("HEAD", path, scope=self._scope) as response,
        ):
            return int(response.headers.get("Content-Length", "0"))
        return None

    def mount(self, digest: str, source: str) -> str | None:
        """Have the server take a blob over from another of its repositories.

        :returns: None when it did, else the URL of the upload that it began instead.
        """
        query = urlencode({"mount": digest, "from": source})
        return self._begin(f"?{query}")

    def begin_upload(self) -> str:
        """Begin to upload a blob, and return the URL to send it to."""
        location = self._begin("")
        if location is None:
            raise RegistryError(
                f"{self.transport.endpoint.host} took over a blob that was not sent"
            )
        return location

    def _begin(self, query: str) -> str | None:
        path = f"{self.name}/blobs/uploads/{query}"
        with self.transport.request(
            "POST",
            path,
            scope=self._scope,
            headers={"Content-Length": "0"},
            body=b"",
            expected=(201, 202),
        ) as response:
            if response.status == HTTPStatus.CREATED:
                return None
            return self._location(response)

    def _location(self, response: urllib3.BaseHTTPResponse) -> str:
        location = response.headers.get("Location", "")
        if not location:
            raise RegistryError(f"{self.transport.endpoint.host} gave no place to upload to")
        return location if "://" in location else self.transport.url(location)

    def finish_upload(self, location: str, digest: str, size: int, body: Iterable[bytes]) -> None:
        """Send a whole blob in one request, and have it verified."""
        separator = "&" if "?" in location else "?"
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self.transport.request(
            "PUT",
            f"{location}{separator}digest={quote(digest)}",
            scope=self._scope,
            headers=headers,
            body=body,
            expected=(201, 204),
        ):
            return

    def send_chunk(self, location: str, offset: int, data: bytes) -> str:
        """Send a part of a blob; return the URL for the next one."""
        headers = {
            "Content-Range": f"{offset}-{offset + len(data) - 1}",
            "Content-Type": "application/octet-stream",
        }
        with self.transport.request(
            "PATCH",
            location,
            scope=self._scope,
            headers=headers,
            body=data,
            expected=(202, 204),
        ) as response:
            return self._location(response)

    def tags(self) -> list[str]:
        """Return every tag, sorted."""
        found: set[str] = set()
        path = f"{self.name}/tags/list?n=1000"
        for document in self._pages(path):
            tags = document.get("tags") or []
            found.update(tag for tag in tags if isinstance(tag, str))
        return sorted(found)

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        yield from _pages(self.transport, path, self._scope)


def search(transport: Transport, term: str, limit: int) -> list[dict[str, Any]]:
    """Search a registry: by its search API where it has one, else in its catalog.

    :returns: objects with ``name``, ``description``, ``star_count``, ``is_official``.
    """
    query = urlencode({"q": term, "n": limit})
    root = transport.url("").removesuffix("/v2/")
    with (
        contextlib.suppress(NotFound, RegistryError),
        transport.request("GET", f"{root}/v1/search?{query}", scope="") as response,
    ):
        document = json.loads(_read(response, _LIST_LIMIT, "the search's answer"))
        if isinstance(document, dict) and isinstance(document.get("results"), list):
            return [item for item in document["results"] if isinstance(item, dict)][:limit]
    found: list[dict[str, Any]] = []
    for page in _pages(transport, "_catalog?n=1000", "registry:catalog:*"):
        found.extend(
            {"name": name, "description": "", "star_count": 0, "is_official": False}
            for name in page.get("repositories") or []
            if term in name
        )
        if len(found) >= limit:
            break
    return found[:limit]


def _pages(transport: Transport, path: str, scope: str) -> Iterator[dict[str, Any]]:
    """Yield each page of a listing, following its Link headers (RFC 8288)."""
    for _ in range(_PAGES):
        with transport.request("GET", path, scope=scope) as response:
            raw = _read(response, _LIST_LIMIT, "the listing")
            link = response.headers.get("Link", "")
        try:
            document = json.loads(raw)
        except ValueError as error:
            raise RegistryError(f"{transport.endpoint.host} sent a broken listing") from error
        if isinstance(document, dict):
            yield document
        target = link.partition("<")[2].partition(">")[0]
        if 'rel="next"' not in link or not target:
            return
        path = target


def _read(response: urllib3.BaseHTTPResponse, limit: int, what: str) -> bytes:
    raw = response.read(limit + 1)
    if len(raw) > limit:
        raise ImageInvalid(f"{what} is larger than {limit >> 20} MiB")
    return raw


def _verify(raw: bytes, digest: str) -> None:
    algorithm, _, expected = digest.partition(":")
    if algorithm not in {"sha256", "sha512"}:
        raise ImageInvalid(f"digests of {algorithm} are not supported")
    if hashlib.new(algorithm, raw).hexdigest() != expected:
        raise ImageInvalid(f"the registry sent something else than {digest}")
