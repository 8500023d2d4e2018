"""Counts visits in Redis."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis


class Handler(BaseHTTPRequestHandler):
    """Counts each GET."""

    def do_GET(self) -> None:
        """Tell which server this is, and how many visits there were."""
        with redis.Redis("redis") as store:
            body = f"{socket.gethostname()}\n{store.incr('visits')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    print("serving")
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
