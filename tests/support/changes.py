"""Calls that change something, each with what is ready for it and how it is seen to be done."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from support.images import Entry, docker_archive, image, layer, tar

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon

__all__ = ["BOX", "CHANGES", "CONTEXT", "LAYER", "REGISTRY", "SECONDS", "Change", "asked"]

REGISTRY = "REGISTRY"
"""Stands in paths and command lines for the address of a registry that has ``made:1``."""

SECONDS = 60.0
"""How long anything may take that is waited for."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("d", timeout=SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def asked(
    daemon: Daemon,
    method: str,
    path: str,
    body: dict[str, Any] | bytes,
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Make one call of a daemon's; return status and whole answer.

    :param body: JSON, or an archive.
    :raises ConnectionError: the daemon has gone; http.client's errors where it went meanwhile.
    """
    kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with contextlib.closing(_Connection(daemon.socket)) as connection:
        connection.request(method, f"/v1.51{path}", data, {"Content-Type": kind, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read().decode()


@dataclass(frozen=True)
class Change:
    """A call that changes something.

    :param call: method, path and body: JSON, or an archive.
    :param look: a command line that says how things are; or ``GET`` and a path, which says
        ``there`` where the answer is a success.
    :param states: what it may say: before, and after.
    :param before: what makes things ready for it, with command lines.
    :param asks: the same with calls, which are made after these.
    :param says: what an answer that streams has in it where it was done.
    :param then: a second call, path and body; ``ID`` in the path is the first one's answer.
    :param by_itself: it comes to be done a while after the answer, or after the next start.
    """

    call: tuple[str, str, dict[str, Any] | bytes]
    look: tuple[str, ...]
    states: tuple[str, str]
    before: tuple[tuple[str, ...], ...] = ()
    asks: tuple[tuple[str, str, dict[str, Any] | bytes], ...] = ()
    says: str = ""
    then: tuple[str, dict[str, Any]] | None = None
    by_itself: bool = False


BOX = ("run", "-d", "--name", "box", "busybox", "sleep", "1000")
STATUS = ("inspect", "--format={{.State.Status}}", "box")
NAMES = ("ps", "-a", "--filter", "name=box", "--format", "{{.Names}}")
NETWORKS = ("inspect", "--format={{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}")
NETWORK = ("network", "ls", "--filter", "name=net", "--format", "{{.Name}}")
VOLUME = ("volume", "ls", "-q", "--filter", "name=vol")
MADE = ("images", "--format", "{{.Repository}}", "made")
COMMIT = (BOX, ("exec", "box", "touch", "/changed"), ("commit", "box", "made:1"))
CREATE = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"Binds": ["kept:/kept"]}}

LAYER = layer({f"made/{number}": bytes([number]) * (1 << 18) for number in range(8)})
"""Two mebibytes, which take a while to check and to unpack."""

CONTEXT = tar([Entry("Dockerfile", b"FROM busybox\nCOPY f /f\nRUN echo 1 > /said\nLABEL a=b\n"),
               Entry("f", bytes(1 << 20))])  # fmt: skip
# One that writes down each of its starts.
COUNTING = ("busybox", "sh", "-c", "echo begun >> /starts; exec sleep 1000")


def _filters(**filters: str) -> str:
    return quote(json.dumps({name: [value] for name, value in filters.items()}))


CHANGES = {
    "create": Change(("POST", "/containers/create?name=box", CREATE), NAMES, ("", "box")),
    "start": Change(
        ("POST", "/containers/box/start", {}),
        STATUS,
        ("created", "running"),
        (("create", "-p", "0:80", *BOX[2:]),),
    ),
    "stop": Change(("POST", "/containers/box/stop?t=0", {}), STATUS, ("running", "exited"), (BOX,)),
    "stop of one with --rm": Change(
        ("POST", "/containers/box/stop?t=0", {}),
        ("inspect", "--format={{.State.Status}}", "box"),
        ("running", ""),
        ((*BOX[:2], "--rm", *BOX[2:]),),
        by_itself=True,
    ),
    "restart": Change(
        ("POST", "/containers/box/restart?t=0", {}),
        ("exec", "box", "sh", "-c", 'test "$(wc -l < /starts)" -gt 1 && echo again || echo once'),
        ("once", "again"),
        ((*BOX[:4], *COUNTING),),
        by_itself=True,
    ),
    "kill": Change(("POST", "/containers/box/kill", {}), STATUS, ("running", "exited"), (BOX,)),
    "pause": Change(("POST", "/containers/box/pause", {}), STATUS, ("running", "paused"), (BOX,)),
    "unpause": Change(
        ("POST", "/containers/box/unpause", {}),
        STATUS,
        ("paused", "running"),
        (BOX, ("pause", "box")),
    ),
    "exec": Change(
        ("POST", "/containers/box/exec", {"Cmd": ["sleep", "77"]}),
        # Not in the order of ids, which the kernel gives anew from time to time.
        ("exec", "box", "sh", "-c", "ps -o args | grep -q '^sleep 77' && echo there || echo alone"),
        ("alone", "there"),
        (BOX,),
        then=("/exec/ID/start", {"Detach": True}),
    ),
    "rm": Change(("DELETE", "/containers/box?force=1", {}), NAMES, ("box", ""), (BOX,)),
    "container prune": Change(
        ("POST", "/containers/prune", {}), NAMES, ("box", ""), (("create", *BOX[2:]),)
    ),
    "resize": Change(
        ("POST", "/containers/box/resize?h=24&w=80", {}),
        ("exec", "box", "stty", "size", "-F", "/dev/console"),
        ("", "24 80"),
        ((*BOX[:2], "-t", *BOX[2:]),),
    ),
    "rename": Change(
        ("POST", "/containers/box/rename?name=box2", {}), NAMES, ("box", "box2"), (BOX,)
    ),
    "update": Change(
        ("POST", "/containers/box/update", {"Memory": 64 << 20, "MemorySwap": -1}),
        ("inspect", "--format={{.HostConfig.Memory}}", "box"),
        ("0", str(64 << 20)),
        (BOX,),
    ),
    "copy into": Change(
        ("PUT", "/containers/box/archive?path=/tmp", tar([Entry("copied", bytes(1 << 20))])),
        ("exec", "box", "sh", "-c", "cd /tmp; wc -c * 2>/dev/null || true"),
        ("", f"{1 << 20} copied"),
        (BOX,),
    ),
    "commit": Change(
        ("POST", "/commit?container=box&repo=made&tag=1", {}), MADE, ("", "made"), COMMIT[:2]
    ),
    "network create": Change(("POST", "/networks/create", {"Name": "net"}), NETWORK, ("", "net")),
    "network connect": Change(
        ("POST", "/networks/net/connect", {"Container": "box"}),
        (*NETWORKS, "box"),
        ("bridge", "bridge net"),
        (BOX, ("network", "create", "net")),
    ),
    "network disconnect": Change(
        ("POST", "/networks/net/disconnect", {"Container": "box"}),
        (*NETWORKS, "box"),
        ("bridge net", "bridge"),
        (BOX, ("network", "create", "net"), ("network", "connect", "net", "box")),
    ),
    "network rm": Change(
        ("DELETE", "/networks/net", {}), NETWORK, ("net", ""), (("network", "create", "net"),)
    ),
    "network prune": Change(
        ("POST", "/networks/prune", {}), NETWORK, ("net", ""), (("network", "create", "net"),)
    ),
    "volume create": Change(("POST", "/volumes/create", {"Name": "vol"}), VOLUME, ("", "vol")),
    "volume rm": Change(
        ("DELETE", "/volumes/vol", {}), VOLUME, ("vol", ""), (("volume", "create", "vol"),)
    ),
    "volume prune": Change(
        ("POST", f"/volumes/prune?filters={_filters(all='true')}", {}),
        VOLUME,
        ("vol", ""),
        (("volume", "create", "vol"),),
    ),
    "tag": Change(("POST", "/images/busybox/tag?repo=made&tag=1", {}), MADE, ("", "made")),
    "untag": Change(
        ("DELETE", "/images/made:1", {}), MADE, ("made", ""), (("tag", "busybox", "made:1"),)
    ),
    "rmi": Change(("DELETE", "/images/made:1", {}), MADE, ("made", ""), COMMIT),
    "image prune": Change(
        ("POST", f"/images/prune?filters={_filters(dangling='false')}", {}),
        MADE,
        ("made", ""),
        COMMIT,
    ),
    "load": Change(
        ("POST", "/images/load", docker_archive([image([LAYER], tags=["made:1"])])),
        MADE,
        ("", "made"),
        says="Loaded image: made:1",
    ),
    "import": Change(
        ("POST", "/images/create?fromSrc=-&repo=made&tag=1", LAYER),
        MADE,
        ("", "made"),
        says='{"status":"sha256:',
    ),
    "pull": Change(
        ("POST", f"/images/create?fromImage={REGISTRY}/made&tag=1", {}),
        ("images", "--format", "{{.Tag}}", f"{REGISTRY}/made"),
        ("", "1"),
        says="Status: ",
    ),
    "push": Change(
        ("POST", f"/images/{REGISTRY}/pushed/push?tag=1", {}),
        ("GET", f"/distribution/{REGISTRY}/pushed:1/json"),
        ("", "there"),
        (("tag", "busybox", f"{REGISTRY}/pushed:1"),),
        says="digest: sha256:",
    ),
    "build": Change(
        ("POST", "/build?t=made:1&nocache=1", CONTEXT),
        MADE,
        ("", "made"),
        says="Successfully tagged made:1",
    ),
    "builder prune": Change(
        ("POST", "/build/prune", {}),
        ("images", "--filter", "dangling=true", "--format", "{{.Repository}}"),
        ("<none>", ""),
        asks=(("POST", "/build?nocache=1", CONTEXT),),
    ),
}
