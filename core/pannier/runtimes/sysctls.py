"""Kernel parameters that a container may have of its own: sysctl(8), namespaces(7)."""

from __future__ import annotations

from pannier.errors import InvalidRequest
from pannier.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS

__all__ = ["sysctl_path"]

_IPC = ("kernel/msg", "kernel/shm", "kernel/sem", "fs/mqueue/")


def sysctl_path(key: str, own: int) -> str:
    """Return a parameter's path below /proc/sys; as in sysctl(8), dots or slashes part the words.

    :param own: the clone flags of the namespaces that are the container's own.
    :raises InvalidRequest: the parameter is not in one of these: it would be the host's.
    """
    slash, dot = key.find("/"), key.find(".")
    # The first separator seen is the one.
    if slash >= 0 and (dot < 0 or slash < dot):
        path = key
    else:
        path = key.translate(str.maketrans("./", "/."))
    private = (
        (path.startswith("net/") and own & CLONE_NEWNET)
        or (path.startswith(_IPC) and own & CLONE_NEWIPC)
        or (path == "kernel/domainname" and own & CLONE_NEWUTS)
    )
    if not private or ".." in path.split("/"):
        raise InvalidRequest(
            f"sysctl {key!r} is not in a namespace of the container's own",
            hint="set it on the host; a container may set net.* and kernel.msg*, sem, shm*",
        )
    return path
