"""The operations of the OCI distribution specification on one repository."""

from __future__ import annotations

import contextlib
import hashlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin

from pannier.errors import ImageInvalid, NotFound
from pannier.images import oci
from pannier.images.registry.auth import scope_of
from pannier.images.registry.cancelling import Cancellation
from pannier.images.registry.listing import pages, read_document
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.transport import Request, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import urllib3

__all__ = ["BlobStream", "Repository", "Upload"]

_FAREWELL_SECONDS = 5.0
_MANIFEST_LIMIT = 4 << 20  # distribution specification: at least this much must be accepted
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MANIFEST_TYPES = (
    oci.OCI_MANIFEST,
    oci.OCI_INDEX,
    oci.DOCKER_MANIFEST,
    oci.DOCKER_INDEX,
    # Asked for so that a registry that has nothing else says so, to be refused with a hint.
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_ACCEPT = ", ".join(_MANIFEST_TYPES)


class BlobStream:
    """A blob that is being read.

    :ivar begin: where in the blob it begins; a server that ignores ranges begins at 0.
    :ivar announced: how long the server says the whole blob is; None if it does not.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, offset: int) -> None:
        self._response = response
        # What has arrived is to be used at once; before urllib3 2.1 a read waits for all of it.
        self._read: Callable[[int], bytes] = getattr(response, "read1", response.read)
        self.begin = 0
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            match = _RANGE.match(response.headers.get("Content-Range", ""))
            self.begin = int(match[1]) if match else offset
        length = response.headers.get("Content-Length", "")
        self.announced = self.begin + int(length) if length.isdecimal() else None

    def read(self, size: int) -> bytes:
        """Read at most *size* bytes, as they come; none at the end."""
        return self._read(size)


class Upload:
    """An upload that the server waits for.

    :param location: the URL to send it, or its next part, to.
    :param chunk: the least size of a part that is not the last (OCI-Chunk-Min-Length); 0 where
        the server does not say.
    """

    def __init__(self, location: str, chunk: int = 0) -> None:
        self.location = location
        self.chunk = chunk


class Repository:
    """One repository at one server.

    :param name: its path there, ``library/busybox``.
    :param push: ask for the right to push, too.
    :param cancellation: ends what waits.
    """

    def __init__(
        self,
        transport: Transport,
        name: str,
        *,
        push: bool = False,
        cancellation: Cancellation | None = None,
    ) -> None:
        self.transport = transport
        self.name = name
        self.cancellation = cancellation or Cancellation()
        self._push = push
        self._scope = scope_of(name, *(("pull", "push") if push else ("pull",)))

    @property
    def host(self) -> str:
        """The server's name, for messages."""
        return self.transport.endpoint.host

    def until(self, cancellation: Cancellation) -> Repository:
        """Return the same repository for work that something else cancels."""
        return Repository(self.transport, self.name, push=self._push, cancellation=cancellation)

    def _request(
        self,
        method: str,
        path: str,
        expected: Iterable[int] = (200,),
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], Iterable[bytes]] | None = None,
        scope: str = "",
    ) -> contextlib.AbstractContextManager[urllib3.BaseHTTPResponse]:
        request = Request(
            method, path, scope or self._scope, headers or {}, body, self.cancellation
        )
        return self.transport.request(request, expected)

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """Return a manifest's or index's bytes and media type.

        :param reference: a tag or a digest; the content of a digest is verified.
        :raises NotFound: the repository has no such manifest.
        :raises ImageInvalid: it is too large, or not what the digest says.
        """
        path = f"{self.name}/manifests/{reference}"
        request = Request(
            "GET", path, self._scope, {"Accept": _ACCEPT}, cancellation=self.cancellation
        )
        what = f"the manifest {reference}"
        raw, headers = read_document(self.transport, request, _MANIFEST_LIMIT, what)
        media_type = headers.get("Content-Type", "").partition(";")[0].strip()
        if ":" in reference:
            _verify(raw, reference)
        # Some simple servers name no type, or a general one; then the document tells its own.
        return raw, media_type if media_type.startswith("application/vnd.") else ""

    def put_manifest(self, reference: str, raw: bytes, media_type: str) -> None:
        """Store a manifest under a tag or its digest."""
        path = f"{self.name}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        with self._request("PUT", path, (201, 202), headers=headers, body=raw):
            return

    @contextlib.contextmanager
    def blob(self, digest: str, offset: int = 0) -> Iterator[BlobStream]:
        """Open a blob for reading, from *offset* on where the server can do that.

        :raises NotFound: the repository has no such blob.
        """
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        path = f"{self.name}/blobs/{digest}"
        with self._request("GET", path, (200, 206), headers=headers) as response:
            yield BlobStream(response, offset)

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        with contextlib.suppress(NotFound), self._request("HEAD", f"{self.name}/blobs/{digest}"):
            return True
        return False

    # Uploads.

    def mount(self, digest: str, source: str) -> Upload | None:
        """Have the server take a blob over from another of its repositories.

        :returns: None when it did, else the upload that it began instead.
        """
        query = urlencode({"mount": digest, "from": source})
        return self._begin(f"?{query}", f"{self._scope} {scope_of(source, 'pull')}")

    def begin_upload(self) -> Upload:
        """Begin to upload a blob."""
        upload = self._begin("", "")
        if upload is None:
            raise RegistryError(f"{self.host} took over a blob that was not sent")
        return upload

    def _begin(self, query: str, scope: str) -> Upload | None:
        path = f"{self.name}/blobs/uploads/{query}"
        headers = {"Content-Length": "0"}
        with self._request(
            "POST", path, (201, 202), headers=headers, body=b"", scope=scope
        ) as response:
            if response.status == HTTPStatus.CREATED:
                return None
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            return Upload(self._location(response, path), int(least) if least.isdecimal() else 0)

    def _location(self, response: urllib3.BaseHTTPResponse, path: str) -> str:
        location = response.headers.get("Location", "")
        if not location:
            raise RegistryError(f"{self.host} gave no place to upload to")
        return urljoin(self.transport.url(path, self.cancellation), location)

    def finish_upload(
        self, upload: Upload, digest: str, size: int, body: Callable[[], Iterable[bytes]]
    ) -> None:
        """Send a whole blob, or what is left of it, in one request, and have it verified."""
        separator = "&" if "?" in upload.location else "?"
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        url = f"{upload.location}{separator}digest={quote(digest)}"
        content = body if size else b""
        with self._request("PUT", url, (201, 204), headers=headers, body=content):
            return

    def send_chunk(self, upload: Upload, offset: int, data: bytes) -> None:
        """Send a part of a blob; the upload goes on where the server then says."""
        headers = {
            "Content-Range": f"{offset}-{offset + len(data) - 1}",
            "Content-Length": str(len(data)),
            "Content-Type": "application/octet-stream",
        }
        # A function: a part that broke off may have arrived, so it cannot simply be repeated.
        with self._request(
            "PATCH", upload.location, (202, 204), headers=headers, body=lambda: [data]
        ) as response:
            upload.location = self._location(response, upload.location)

    def abandon_upload(self, upload: Upload) -> None:
        """Tell the server that nothing more comes; it need not listen."""
        request = Request(
            "DELETE", upload.location, self._scope, attempts=1, patience=_FAREWELL_SECONDS
        )
        with contextlib.suppress(Exception), self.transport.request(request, (202, 204)):
            return

    def tags(self) -> list[str]:
        """Return every tag, sorted."""
        found: set[str] = set()
        path = f"{self.name}/tags/list?n=1000"
        for document in pages(self.transport, path, self._scope, self.cancellation):
            tags: Any = document.get("tags") or []
            found.update(tag for tag in tags if isinstance(tag, str))
        return sorted(found)


def _verify(raw: bytes, digest: str) -> None:
    algorithm, _, expected = digest.partition(":")
    if algorithm not in {"sha256", "sha384", "sha512"}:
        raise ImageInvalid(f"digests of {algorithm} are not supported")
    if hashlib.new(algorithm, raw).hexdigest() != expected:
        raise ImageInvalid(f"the registry sent something else than {digest}")
