"""The shape of a JSON answer: which fields it has, and of which types.

Run by hand to record the shapes of a real dockerd's answers (20.10 was used):
``python shapes.py /path/of/docker.sock > dockerd_20_10.json``. It needs an image ``busybox``.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from typing import Any

BODY: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "sleep 100"],
    "Env": ["A=b"],
    "Labels": {"x": "y"},
    "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
    "StopSignal": "SIGTERM",
    "StopTimeout": 1,
    "HostConfig": {
        "PortBindings": {"80/tcp": [{"HostPort": ""}]},
        "Binds": ["/tmp:/x:ro", "shapes:/y"],
        "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096}}],
        "Tmpfs": {"/t2": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}],
        "Init": False,
        "Sysctls": {"net.ipv4.ip_forward": "1"},
    },
}

OPERATIONS = {
    "container": "/containers/shapes/json?size=1",
    "containers": "/containers/json?size=1",
    "created": "/containers/shapes2/json",
    "stats": "/containers/shapes/stats?stream=0",
    "top": "/containers/shapes/top",
    "images": "/images/json",
    "image": "/images/busybox/json",
    "history": "/images/busybox/history",
    "volume": "/volumes/shapes",
    "volumes": "/volumes",
    "network": "/networks/bridge",
    "networks": "/networks",
    "info": "/info",
    "version": "/version",
    "df": "/system/df",
    "exec": "/exec/{exec}/json",
}


def shape(value: Any, where: str = "$") -> dict[str, str]:
    """Return each field's path and type; of lists, the first item stands for all."""
    found = {where: type(value).__name__}
    if isinstance(value, dict):
        for key, item in value.items():
            # Keys that are names of things are all alike.
            name = "*" if len(key) == 64 or "/" in key else key
            found |= shape(item, f"{where}.{name}")
    elif isinstance(value, list) and value:
        found |= shape(value[0], f"{where}[]")
    return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def request(path: str, method: str, target: str, body: object = None) -> Any:
    """Make one request; return the JSON answered."""
    connection = _Connection(path)
    data = None if body is None else json.dumps(body)
    connection.request(method, target, data, {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    connection.close()
    return json.loads(answer) if answer else None


def record(path: str) -> dict[str, dict[str, str]]:
    """Return the shapes of every operation's answer."""
    request(path, "POST", "/containers/create?name=shapes", BODY)
    request(path, "POST", "/containers/shapes/start")
    request(path, "POST", "/containers/create?name=shapes2", {"Image": "busybox"})
    exec_id = request(path, "POST", "/containers/shapes/exec", {"Cmd": ["true"]})["Id"]
    try:
        return {
            name: shape(request(path, "GET", target.format(exec=exec_id)))
            for name, target in OPERATIONS.items()
        }
    finally:
        request(path, "DELETE", "/containers/shapes?force=1&v=1")
        request(path, "DELETE", "/containers/shapes2?force=1&v=1")
        request(path, "DELETE", "/volumes/shapes")


if __name__ == "__main__":
    json.dump(record(sys.argv[1]), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
