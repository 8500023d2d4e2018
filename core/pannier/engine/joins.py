"""Which namespaces a container makes, which it joins, and which it shares with the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers import oci
    from pannier.drivers.network import Namespace
    from pannier.engine.model import Container
    from pannier.engine.registry import Registry

__all__ = ["Joins", "entries", "resolve"]


@dataclass(frozen=True, slots=True)
class Joins:
    """The containers whose namespaces are joined, each as its first process's pid; 0 for none.

    :param host_network: the host's network namespace is shared.
    :param donor: the container whose network is joined, for its host files.
    """

    network: int = 0
    pid: int = 0
    ipc: int = 0
    host_network: bool = False
    donor: Container | None = None


def resolve(container: Container, network: Namespace, registry: Registry) -> Joins:
    """Look up the running containers that *container* joins.

    :raises NotFound: there is no such container.
    :raises Conflict: it is not running, or keeps its IPC namespace to itself.
    """
    donor = None
    pid = ipc = 0
    if network.kind == "container":
        donor = _running(network.container or "", registry, "network namespace", container)
    kind, _, ref = container.host.pid_mode.partition(":")
    if kind == "container":
        pid = _running(ref, registry, "PID namespace", container).state.pid
    kind, _, ref = container.host.ipc_mode.partition(":")
    if kind == "container":
        other = _running(ref, registry, "IPC namespace", container)
        if other.host.ipc_mode not in ("shareable", "host"):
            raise Conflict(
                f"cannot join IPC of container {ref}: non-shareable IPC",
                hint="run the other container with --ipc shareable",
            )
        ipc = other.state.pid
    return Joins(
        network=0 if donor is None else donor.state.pid,
        pid=pid,
        ipc=ipc,
        host_network=network.kind == "host",
        donor=donor,
    )


def _running(ref: str, registry: Registry, what: str, joiner: Container) -> Container:
    container = registry.find(ref).container
    if container.id == joiner.id:
        raise InvalidRequest(f"cannot join own {what}")
    if not container.state.running:
        raise Conflict(
            f"cannot join {what} of a non running container: {container.id}",
            hint=f"start it first: pannier start {container.name}",
        )
    return container


def entries(container: Container, joins: Joins) -> list[oci.Namespace]:
    """Return the specification's list: entries without a path are made, others joined."""
    host = container.host
    found: list[oci.Namespace] = [{"type": "mount"}]

    def add(kind: str, mode: str, pid: int, link: str) -> None:
        if pid:
            found.append({"type": kind, "path": f"/proc/{pid}/ns/{link}"})
        elif mode != "host":
            found.append({"type": kind})

    add("network", "host" if joins.host_network else "", joins.network, "net")
    add("pid", host.pid_mode, joins.pid, "pid")
    add("ipc", host.ipc_mode, joins.ipc, "ipc")
    add("uts", host.uts_mode, 0, "uts")
    add("cgroup", host.cgroupns_mode, 0, "cgroup")
    if container.idmap is not None:
        # A namespace that is joined belongs to the user namespace of its maker, and only from
        # inside that one may it be used: user_namespaces(7).
        add("user", "", joins.network or joins.pid or joins.ipc, "user")
    return found
