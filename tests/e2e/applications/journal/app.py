"""Keeps what is posted in PostgreSQL, and tells all of it."""

from __future__ import annotations

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

TABLE = "CREATE TABLE IF NOT EXISTS entries (id serial PRIMARY KEY, text text NOT NULL)"
DATABASE = os.environ["DATABASE"]


class Handler(BaseHTTPRequestHandler):
    """Answers GET with all entries, and POST by adding one."""

    def do_GET(self) -> None:
        """Tell which server this is, and all entries."""
        with psycopg2.connect(DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT text FROM entries ORDER BY id")
            self._answer([socket.gethostname(), *(row[0] for row in cursor)])

    def do_POST(self) -> None:
        """Add an entry."""
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with psycopg2.connect(DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO entries (text) VALUES (%s)", (text,))
        self._answer(["kept"])

    def _answer(self, lines: list[str]) -> None:
        body = "\n".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with psycopg2.connect(DATABASE) as opened, opened.cursor() as maker:
        maker.execute(TABLE)
    print("serving")
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
