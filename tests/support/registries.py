"""Registries and a search index beside an engine: on the loopback of its network namespace."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from pannier.linux.namespaces import in_network_namespace
from support.registry import BCRYPT, USER, debian_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["registry_beside", "search_index_beside"]


@contextlib.contextmanager
def _namespace(pid: int) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Give what puts this thread into a process's network namespace."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lambda: in_network_namespace(namespace)
    finally:
        os.close(namespace)


@contextlib.contextmanager
def registry_beside(pid: int, folder: Path, port: int, *, private: bool = False) -> Iterator[None]:
    """Run Debian's registry.

    :param pid: the engine's process.
    :param folder: for the registry's files.
    :param private: whether it wants to know that one is jo, who has a password.
    """
    auth = ""
    folder.mkdir(parents=True)
    if private:
        users = folder / "users"
        users.write_text(f"{USER}:{BCRYPT}\n")
        auth = f"  htpasswd: {{realm: tests, path: {users}}}"
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net"]
    with (
        _namespace(pid) as entered,
        debian_registry(folder / "data", port=port, auth=auth, inside=inside, entered=entered),
    ):
        yield


SEARCH = "/v1/search"
"""Where the index answers."""


class _Index(BaseHTTPRequestHandler):
    """Knows a few repositories, by Docker's search API of old."""

    _KNOWN = (
        ("found", "an image", 3, True, False),
        ("jo/found", "", 0, False, True),
        ("other", "something else", 1, False, False),
    )

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        url = urlsplit(self.path)
        status, document = 200, {}
        if url.path == SEARCH:
            document = self._search(parse_qs(url.query).get("q", [""])[0])
        elif url.path != "/v1/_ping":
            status = 404
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _search(self, term: str) -> dict[str, object]:
        results = [
            {
                "name": name,
                "description": description,
                "star_count": stars,
                "is_official": official,
                "is_automated": automated,
            }
            for name, description, stars, official, automated in self._KNOWN
            if term in name
        ]
        return {"query": term, "num_results": len(results), "results": results}


@contextlib.contextmanager
def search_index_beside(pid: int, port: int) -> Iterator[None]:
    """Run an index that images can be searched in.

    :param pid: the engine's process.
    """
    with _namespace(pid) as entered, entered():
        server = ThreadingHTTPServer(("127.0.0.1", port), _Index)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
