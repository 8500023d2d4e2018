"""Record what the real docker client sends for ``create``, as golden data for our own.

Run by hand, where a ``docker`` client is installed: ``python record.py > create_bodies.json``.
A small server on a socket of its own answers the client's ping and refuses every create, having
noted the request; no engine is asked for anything.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

PING = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nOstype: linux\r\nDocker-Experimental: false\r\n"
    b"Content-Length: 2\r\nConnection: close\r\n\r\nOK"
)
REFUSAL = b'{"message":"recorded"}'


def read_request(connection: socket.socket) -> tuple[str, bytes]:
    """Read one request: its first line and its body of a known length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head.split(b"\r\n")[0].decode(), body


def normalise(value: Any, key: str = "") -> Any:
    """Drop what is empty, which the API takes for "not asked for"; our client leaves it out.

    Kept are fields whose emptiness says something: an endpoint's presence, masked paths set to
    none, an init that is refused.
    """
    if isinstance(value, dict):
        kept = {name: normalise(one, name) for name, one in value.items()}
        if key == "EndpointsConfig":
            return {name: one for name, one in kept.items() if one or name != "default"}
        if key in ("Volumes", "ExposedPorts", "Labels", "PortBindings", "Tmpfs", "Annotations"):
            return kept
        return {name: one for name, one in kept.items() if _says_something(name, one)}
    if isinstance(value, list):
        return [normalise(one) for one in value]
    return value


def _says_something(name: str, value: Any) -> bool:
    if name in ("Init", "MaskedPaths", "ReadonlyPaths"):
        return value is not None
    # The docker client says -1, "no" and "default" where nothing was asked.
    ours = {
        "ConsoleSize": [0, 0],
        "MemorySwappiness": -1,
        "NetworkMode": "default",
        "RestartPolicy": {"Name": "no"},
    }
    return bool(value) and ours.get(name) != value


def serve(listener: socket.socket, seen: list[dict[str, Any]]) -> None:
    """Answer pings, note creates and refuse them, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            line, body = read_request(connection)
            if "/_ping" in line:
                connection.sendall(PING)
                continue
            seen.append({"request": line, "body": json.loads(body) if body else None})
            connection.sendall(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(REFUSAL), REFUSAL)
            )


def query_of(request: str) -> str:
    """Return the query of a request's first line."""
    return request.split(" ")[1].partition("?")[2]


def main() -> None:
    """Record every line of ``command_lines.json``."""
    docker = shutil.which("docker")
    if docker is None:
        sys.exit("record.py needs the docker client on PATH")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(8)
        seen: list[dict[str, Any]] = []
        threading.Thread(target=serve, args=(listener, seen), daemon=True).start()
        out = []
        for line in json.loads((HERE / "command_lines.json").read_text()):
            seen.clear()
            done = subprocess.run(
                [docker, "create", *line],
                env={"DOCKER_HOST": f"unix://{path}", "PATH": "/usr/bin:/bin", "HOME": folder},
                cwd=HERE,
                capture_output=True,
                text=True,
                check=False,
            )
            creates = [one for one in seen if "/containers/create" in one["request"]]
            out.append(
                {
                    "args": line,
                    "query": query_of(creates[0]["request"]) if creates else None,
                    "body": normalise(creates[0]["body"]) if creates else None,
                    "error": None if creates else done.stderr.splitlines()[0],
                }
            )
        listener.close()
    lines = [json.dumps(one, separators=(",", ":"), sort_keys=True) for one in out]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
