"""The shapes of an engine's answers to a sequence of calls: statuses, types, names of fields.

The same calls are made to Pannier and to a real dockerd 20.10. What that one answered is recorded,
for machines that have none::

    cd tests && python -m support.answers > e2e/golden/answers_20_10.json
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from support.dockerd import running_dockerd
from support.images import Entry, busybox_archive, docker_archive, image, layer, tar

__all__ = ["ASKS", "Ask", "Shapes", "answers"]

Shapes = dict[str, dict[str, str]]
"""By call: the types that each field of the answer has, and its status, as ``status``."""

_TIMEOUT = 60.0
_VERSION = "v1.41"  # the newest of dockerd 20.10


@dataclass(frozen=True)
class Ask:
    """A call.

    :param path: with ``{NAME}`` for what an earlier answer was kept under.
    :param body: JSON, or bytes as they are.
    :param keep: a name to keep the answer's ``Id`` under.
    :param first: only the first line of an answer without end is read.
    """

    name: str
    method: str
    path: str
    body: Any = None
    keep: str = ""
    first: bool = False


def _filters(**filters: str) -> str:
    return quote(json.dumps({name: [value] for name, value in filters.items()}))


_BOX: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "echo out; echo err >&2; sleep 1000"],
    "Env": ["A=b"],
    "Labels": {"x": "y"},
    "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
    "StopSignal": "SIGTERM",
    "StopTimeout": 1,
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 200_000_000},
    "HostConfig": {
        "PortBindings": {"80/tcp": [{"HostPort": ""}]},
        "Binds": ["/tmp:/x:ro", "vol:/y"],
        "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096}}],
        "Tmpfs": {"/t2": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 512}],
        "Init": False,
        "Sysctls": {"net.ipv4.ip_forward": "1"},
        "Memory": 64 << 20,
    },
}
_CONTEXT = tar([Entry("Dockerfile", b"FROM busybox\nRUN echo 1 > /said\nLABEL a=b\n")])
_OTHER = docker_archive([image([layer({"f": "x" * 4096})], tags=["other:1"])])
_ROOT = layer({"g": "y"})

ASKS = (
    Ask("ping", "GET", "/_ping"),
    Ask("ping by HEAD", "HEAD", "/_ping"),
    Ask("version", "GET", "/version"),
    Ask("info", "GET", "/info"),
    # Images.
    Ask("image load", "POST", "/images/load", busybox_archive()),
    Ask("image load of another", "POST", "/images/load?quiet=1", _OTHER),
    Ask("image load of nonsense", "POST", "/images/load", b"nonsense"),
    Ask("image import", "POST", "/images/create?fromSrc=-&repo=imported&tag=1", _ROOT),
    Ask("image list", "GET", "/images/json"),
    Ask("image list of all", "GET", "/images/json?all=1&digests=1"),
    Ask("image list by a wrong filter", "GET", f"/images/json?filters={_filters(nonsense='1')}"),
    Ask("image inspect", "GET", "/images/busybox/json"),
    Ask("image inspect of none", "GET", "/images/nothing/json"),
    Ask("image history", "GET", "/images/busybox/history"),
    Ask("image history of none", "GET", "/images/nothing/history"),
    Ask("image tag", "POST", "/images/busybox/tag?repo=tagged&tag=1"),
    Ask("image tag of none", "POST", "/images/nothing/tag?repo=tagged&tag=1"),
    Ask("image tag with a wrong name", "POST", "/images/busybox/tag?repo=WRONG&tag=1"),
    Ask("image untag", "DELETE", "/images/tagged:1"),
    Ask("image save", "GET", "/images/busybox/get"),
    Ask("image save of some", "GET", "/images/get?names=busybox&names=other:1"),
    Ask("image save of none", "GET", "/images/nothing/get"),
    Ask("image pull from nowhere", "POST", "/images/create?fromImage=127.0.0.1:9/none&tag=1"),
    Ask("image push of none", "POST", "/images/127.0.0.1:9/nothing/push?tag=1"),
    Ask("distribution from nowhere", "GET", "/distribution/127.0.0.1:9/none/json"),
    Ask("auth at nowhere", "POST", "/auth", {"username": "a", "serveraddress": "127.0.0.1:9"}),
    Ask("build", "POST", "/build?t=built:1", _CONTEXT),
    Ask("build from a cache", "POST", "/build?t=built:2", _CONTEXT),
    Ask("build quietly", "POST", "/build?q=1", _CONTEXT),
    Ask("build of nonsense", "POST", "/build", tar([Entry("Dockerfile", b"NONSENSE\n")])),
    Ask(
        "build that fails",
        "POST",
        "/build",
        tar([Entry("Dockerfile", b"FROM busybox\nRUN exit 3\n")]),
    ),
    Ask("image list of what was built", "GET", "/images/json?all=1"),
    Ask("image inspect of what was built", "GET", "/images/built:1/json"),
    Ask("image history of what was built", "GET", "/images/built:1/history"),
    # Volumes and networks.
    Ask("volume create", "POST", "/volumes/create", {"Name": "vol", "Labels": {"a": "b"}}),
    Ask("volume create without a name", "POST", "/volumes/create", {}),
    Ask(
        "volume create by a wrong driver",
        "POST",
        "/volumes/create",
        {"Name": "wrong", "Driver": "nonsense"},
    ),
    Ask("volume create with a wrong name", "POST", "/volumes/create", {"Name": "a b"}),
    Ask(
        "volume create with options",
        "POST",
        "/volumes/create",
        {"Name": "opt", "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}},
    ),
    Ask("volume list", "GET", "/volumes"),
    Ask("volume list of none", "GET", f"/volumes?filters={_filters(name='nothing')}"),
    Ask("volume list by a wrong filter", "GET", f"/volumes?filters={_filters(nonsense='1')}"),
    Ask("volume inspect", "GET", "/volumes/vol"),
    Ask("volume inspect with options", "GET", "/volumes/opt"),
    Ask("volume inspect of none", "GET", "/volumes/nothing"),
    Ask(
        "network create",
        "POST",
        "/networks/create",
        {
            "Name": "net",
            "CheckDuplicate": True,
            "IPAM": {
                "Config": [
                    {
                        "Subnet": "10.91.0.0/24",
                        "IPRange": "10.91.0.128/25",
                        "Gateway": "10.91.0.1",
                        "AuxiliaryAddresses": {"a": "10.91.0.9"},
                    }
                ]
            },
            "Labels": {"a": "b"},
        },
        keep="net",
    ),
    Ask(
        "network create once more",
        "POST",
        "/networks/create",
        {"Name": "net", "CheckDuplicate": True},
    ),
    Ask(
        "network create by a wrong driver",
        "POST",
        "/networks/create",
        {"Name": "w", "Driver": "nonsense"},
    ),
    Ask(
        "network create that overlaps",
        "POST",
        "/networks/create",
        {"Name": "w", "IPAM": {"Config": [{"Subnet": "10.91.0.0/25"}]}},
    ),
    Ask("network create of a predefined one", "POST", "/networks/create", {"Name": "host"}),
    Ask("network list", "GET", "/networks"),
    Ask("network list of none", "GET", f"/networks?filters={_filters(name='nothing')}"),
    Ask("network list by a wrong filter", "GET", f"/networks?filters={_filters(nonsense='1')}"),
    Ask("network inspect of bridge", "GET", "/networks/bridge"),
    Ask("network inspect of host", "GET", "/networks/host"),
    Ask("network inspect of none", "GET", "/networks/nothing"),
    # Containers.
    Ask("create", "POST", "/containers/create?name=box", _BOX, keep="box"),
    Ask(
        "create with a name that is taken",
        "POST",
        "/containers/create?name=box",
        {"Image": "busybox"},
    ),
    Ask("create with a wrong name", "POST", "/containers/create?name=a%20b", {"Image": "busybox"}),
    Ask("create of no image", "POST", "/containers/create", {"Image": "nothing"}),
    Ask("create of nonsense", "POST", "/containers/create", b"nonsense"),
    Ask("create without a command", "POST", "/containers/create", {"Image": "other:1"}),
    Ask("inspect of one created", "GET", "/containers/box/json"),
    Ask("top of one created", "GET", "/containers/box/top"),
    Ask("stats of one created", "GET", "/containers/box/stats?stream=0"),
    Ask("logs of one created", "GET", "/containers/box/logs?stdout=1"),
    Ask("exec in one created", "POST", "/containers/box/exec", {"Cmd": ["true"]}),
    Ask("kill of one created", "POST", "/containers/box/kill"),
    Ask("pause of one created", "POST", "/containers/box/pause"),
    Ask("stop of one created", "POST", "/containers/box/stop"),
    Ask("start", "POST", "/containers/box/start"),
    Ask("start once more", "POST", "/containers/box/start"),
    Ask("start of none", "POST", "/containers/nothing/start"),
    Ask("list", "GET", "/containers/json"),
    Ask("list with sizes", "GET", "/containers/json?all=1&size=1"),
    Ask("list of none", "GET", f"/containers/json?filters={_filters(name='nothing')}"),
    Ask("list by a wrong filter", "GET", f"/containers/json?filters={_filters(nonsense='1')}"),
    Ask("list by a wrong status", "GET", f"/containers/json?filters={_filters(status='x')}"),
    Ask("list by broken filters", "GET", "/containers/json?filters=nonsense"),
    Ask("inspect", "GET", "/containers/box/json?size=1"),
    Ask("inspect of none", "GET", "/containers/nothing/json"),
    Ask("top", "GET", "/containers/box/top"),
    Ask("top with arguments", "GET", "/containers/box/top?ps_args=-o%20pid,args"),
    Ask("logs", "GET", "/containers/box/logs?stdout=1&stderr=1"),
    Ask("logs of nothing", "GET", "/containers/box/logs"),
    Ask("stats", "GET", "/containers/box/stats?stream=0"),
    Ask("stats at once", "GET", "/containers/box/stats?stream=0&one-shot=1"),
    Ask("stats as a stream", "GET", "/containers/box/stats", first=True),
    Ask("resize", "POST", "/containers/box/resize?h=10&w=10"),
    Ask(
        "exec create",
        "POST",
        "/containers/box/exec",
        {"Cmd": ["sleep", "1"], "AttachStdout": True, "User": "root", "Env": ["A=b"]},
        keep="exec",
    ),
    Ask("exec inspect", "GET", "/exec/{exec}/json"),
    Ask("exec start", "POST", "/exec/{exec}/start", {"Detach": True}),
    Ask("exec inspect of one that runs", "GET", "/exec/{exec}/json"),
    Ask("exec start once more", "POST", "/exec/{exec}/start", {"Detach": True}),
    Ask("exec inspect of none", "GET", "/exec/nothing/json"),
    Ask("exec start of none", "POST", "/exec/nothing/start", {"Detach": True}),
    Ask("exec of nothing", "POST", "/containers/box/exec", {"Cmd": []}),
    Ask("inspect with an exec", "GET", "/containers/box/json"),
    Ask("archive put", "PUT", "/containers/box/archive?path=/tmp", tar([Entry("f", b"x")])),
    Ask("archive head", "HEAD", "/containers/box/archive?path=/tmp/f"),
    Ask("archive get", "GET", "/containers/box/archive?path=/tmp/f"),
    Ask("archive get of none", "GET", "/containers/box/archive?path=/nothing"),
    Ask("archive get without a path", "GET", "/containers/box/archive"),
    Ask("changes", "GET", "/containers/box/changes"),
    Ask("export", "GET", "/containers/box/export"),
    Ask(
        "network connect",
        "POST",
        "/networks/net/connect",
        {
            "Container": "box",
            "EndpointConfig": {"Aliases": ["aka"], "IPAMConfig": {"IPv4Address": "10.91.0.77"}},
        },
    ),
    Ask("network connect once more", "POST", "/networks/net/connect", {"Container": "box"}),
    Ask("network inspect with a container", "GET", "/networks/net"),
    Ask("inspect on two networks", "GET", "/containers/box/json"),
    Ask("list on two networks", "GET", "/containers/json"),
    Ask("network delete in use", "DELETE", "/networks/net"),
    Ask("network disconnect", "POST", "/networks/net/disconnect", {"Container": "box"}),
    Ask("network disconnect once more", "POST", "/networks/net/disconnect", {"Container": "box"}),
    Ask("pause", "POST", "/containers/box/pause"),
    Ask("inspect of one paused", "GET", "/containers/box/json"),
    Ask("unpause", "POST", "/containers/box/unpause"),
    Ask("rename", "POST", "/containers/box/rename?name=box2"),
    Ask("rename back", "POST", "/containers/box2/rename?name=box"),
    Ask("rename to nothing", "POST", "/containers/box/rename"),
    Ask("update", "POST", "/containers/box/update", {"Memory": 128 << 20, "MemorySwap": 256 << 20}),
    Ask("update to nonsense", "POST", "/containers/box/update", {"Memory": 1}),
    Ask("commit", "POST", "/commit?container=box&repo=made&tag=1&author=me&comment=said"),
    Ask("commit of none", "POST", "/commit?container=nothing"),
    Ask("image inspect of what was committed", "GET", "/images/made:1/json"),
    Ask("image delete in use", "DELETE", "/images/busybox"),
    Ask("volume delete in use", "DELETE", "/volumes/vol"),
    Ask("delete of one that runs", "DELETE", "/containers/box"),
    Ask("kill with a wrong signal", "POST", "/containers/box/kill?signal=NONSENSE"),
    Ask("system df", "GET", "/system/df"),
    Ask("restart", "POST", "/containers/box/restart?t=0"),
    Ask("stop", "POST", "/containers/box/stop?t=0"),
    Ask("stop once more", "POST", "/containers/box/stop?t=0"),
    Ask("wait", "POST", "/containers/box/wait"),
    Ask("wait of none", "POST", "/containers/nothing/wait"),
    Ask("inspect of one exited", "GET", "/containers/box/json"),
    Ask("list of exited ones", "GET", "/containers/json?all=1"),
    Ask(
        "create of a wrong program",
        "POST",
        "/containers/create?name=wrong",
        {"Image": "busybox", "Cmd": ["/nothing"]},
    ),
    Ask("start of a wrong program", "POST", "/containers/wrong/start"),
    Ask("inspect of a wrong program", "GET", "/containers/wrong/json"),
    Ask("delete", "DELETE", "/containers/box?v=1"),
    Ask("delete of none", "DELETE", "/containers/nothing"),
    Ask("container prune", "POST", "/containers/prune"),
    Ask("container prune of none", "POST", "/containers/prune"),
    Ask(
        "container prune by a wrong filter",
        "POST",
        f"/containers/prune?filters={_filters(nonsense='1')}",
    ),
    Ask("image delete", "DELETE", "/images/made:1"),
    Ask("image delete of none", "DELETE", "/images/nothing"),
    Ask("image prune of dangling ones", "POST", "/images/prune"),
    Ask("image prune", "POST", f"/images/prune?filters={_filters(dangling='false')}"),
    Ask("image prune of none", "POST", "/images/prune"),
    Ask("build prune", "POST", "/build/prune?all=1"),
    Ask("volume delete", "DELETE", "/volumes/opt"),
    Ask("volume delete of none", "DELETE", "/volumes/nothing"),
    Ask("volume prune", "POST", "/volumes/prune"),
    Ask("volume prune of none", "POST", "/volumes/prune"),
    Ask("network prune", "POST", "/networks/prune"),
    Ask("network prune of none", "POST", "/networks/prune"),
    Ask("network delete of none", "DELETE", "/networks/nothing"),
    Ask("network delete of a predefined one", "DELETE", "/networks/bridge"),
    Ask("system df of nothing", "GET", "/system/df"),
    # What is not there.
    Ask("a page that is none", "GET", "/nothing"),
    Ask("a method that is none", "PATCH", "/containers/json"),
    Ask("plugins", "GET", "/plugins"),
    Ask("a plugin that is none", "GET", "/plugins/nothing/json"),
    Ask("swarm", "GET", "/swarm"),
    Ask("nodes", "GET", "/nodes"),
    Ask("services", "GET", "/services"),
    Ask("tasks", "GET", "/tasks"),
    Ask("secrets", "GET", "/secrets"),
    Ask("configs", "GET", "/configs"),
    Ask("swarm leave", "POST", "/swarm/leave"),
    Ask("events by wrong times", "GET", "/events?since=nonsense&until=1"),
    Ask("events without until", "GET", "/events?since=2&until=1"),
)


def _shape(value: Any, where: str = "$") -> dict[str, set[str]]:
    """Return the types of each field; the items of a list stand together."""
    found = {where: {type(value).__name__}}
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        # Keys that are names of things are all alike.
        parts = [
            (f"{where}.{'*' if len(key) == 64 or '/' in key else key}", item)
            for key, item in value.items()
        ]
    elif isinstance(value, list):
        parts = [(f"{where}[]", item) for item in value]
    for name, item in parts:
        for path, kinds in _shape(item, name).items():
            found.setdefault(path, set()).update(kinds)
    return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


_HEADERS = ("Api-Version", "Content-Type", "Docker-Experimental", "Builder-Version", "Ostype",
            "Cache-Control", "Pragma", "Server", "X-Docker-Container-Path-Stat")  # fmt: skip


def _answer(socket_path: str, ask: Ask, kept: dict[str, str]) -> dict[str, str]:
    path = ask.path
    for key, known in kept.items():
        path = path.replace(f"{{{key}}}", known)
    raw = isinstance(ask.body, bytes)
    data = ask.body if raw or ask.body is None else json.dumps(ask.body).encode()
    headers = {
        "Content-Type": "application/x-tar" if raw and b"\0" in ask.body else "application/json"
    }
    if "/push" in path:
        headers["X-Registry-Auth"] = base64.b64encode(b"{}").decode()
    with contextlib.closing(_Connection(socket_path)) as connection:
        connection.request(ask.method, f"/{_VERSION}{path}", data, headers)
        response = connection.getresponse()
        body = response.readline() if ask.first else response.read()
    found = {"status": str(response.status)}
    for name in _HEADERS:
        value = response.headers.get(name)
        if value is not None:
            # Which one, only where clients act on it.
            found[f"header {name}"] = value if name in {"Content-Type", "Ostype"} else "there"
    stat = response.headers.get("X-Docker-Container-Path-Stat")
    if stat is not None:
        found |= _typed(json.loads(base64.b64decode(stat)), "$stat")
    # dockerd says of some streams, and of events, not what they are.
    values = _values(body)
    if values:
        found |= _typed(values[0] if len(values) == 1 else values, "$")
        if ask.keep:
            kept[ask.keep] = values[0]["Id"]
    return found


def _values(body: bytes) -> list[Any]:
    """Return the lines of JSON of a body; none where it is something else."""
    if not body.startswith((b"{", b"[")):
        return []
    return [json.loads(line) for line in body.splitlines() if line.strip()]


def _typed(value: Any, where: str) -> dict[str, str]:
    return {path: "|".join(sorted(kinds)) for path, kinds in _shape(value, where).items()}


def answers(socket_path: str) -> Shapes:
    """Make every call, in order; return the shapes of the answers and of the events meanwhile."""
    kept: dict[str, str] = {}
    begin = time.time()
    found = {ask.name: _answer(socket_path, ask, kept) for ask in ASKS}
    with contextlib.closing(_Connection(socket_path)) as connection:
        connection.request(
            "GET", f"/{_VERSION}/events?since={begin:.6f}&until={time.time() + 0.1:.6f}"
        )
        lines = connection.getresponse().read().splitlines()
    events: dict[str, list[Any]] = {}
    for line in lines:
        event = json.loads(line)
        action = event["Action"].partition(":")[0]
        events.setdefault(f"event {event['Type']} {action}", []).append(event)
    for name, several in events.items():
        # Each event stands for all of its kind.
        found[name] = _typed(several, "$")
    return found


if __name__ == "__main__":
    with running_dockerd() as daemon:
        recorded = answers(f"{daemon.folder}/s")
    sys.stdout.write(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
