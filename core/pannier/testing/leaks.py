"""What a driver may leave behind: a snapshot of it before and after each test, and the difference.

Other programs work on the same host. So a snapshot holds only what can be laid at the driver's
door: what mentions its own folders, what is in the calling thread's own network namespace, below a
control group of the test's, or held by this process, its descendants, and the processes that have
come since and hold something in its folders.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.linux import rtnl
from pannier.linux.cgroupfs import subgroups
from pannier.linux.mounts import umount
from pannier.linux.netlink import ROUTE, NetlinkSocket
from pannier.testing.firewall import firewall_objects
from pannier.testing.processes import (
    all_processes,
    descendants,
    holders,
    name_of,
    network_namespaces,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "Snapshot",
    "Watch",
    "files_below",
    "groups_below",
    "leaked",
    "remove_folder",
    "snapshot",
    "unmount_below",
    "wait_until",
]

_PATIENCE: Final = 10.0
"""Seconds in which what is removed in the background must be gone."""

_OF_OWN_ADDRESSES: Final = 0x80000000 | 0x00100000
"""RTF_LOCAL and RTF_ANYCAST: the routes that come with an address."""

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")
_SHORTEST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Watch:
    """Where to look for what a driver leaves behind.

    :param folders: mounts that are on, of or made from these folders count, and processes that
        hold something in them.
    :param groups: control groups; those below them count.
    :param network: whether the links, addresses, routes and firewall rules of the calling thread's
        network namespace count. Only in a namespace that nobody else changes.
    """

    folders: tuple[Path, ...] = ()
    groups: tuple[Path, ...] = ()
    network: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there was at one moment: how many of each thing, by its kind and its description.

    :param pids: every process that there was, anybody's.
    """

    things: Mapping[str, Counter[str]] = field(default_factory=dict)
    pids: frozenset[int] = frozenset()


def snapshot(watch: Watch, since: Snapshot | None = None) -> Snapshot:
    """Take a snapshot of what *watch* names, and of what this process holds.

    :param since: an earlier one. Only processes that have come after it are asked what they hold in
        the folders: to ask all of a host's is slow.
    """
    pids = all_processes()
    ours = _processes(watch.folders, since.pids if since else pids)
    things = {
        "mount": Counter(_mounts(watch.folders)),
        "namespace": Counter(network_namespaces([os.getpid(), *ours])),
        "process": Counter(_named(ours)),
        "control group": Counter(groups_below(*watch.groups)),
        "descriptor": Counter(_descriptors()),
    }
    if watch.network:
        things["link"] = Counter(_links())
        things["firewall rule"] = Counter(firewall_objects())
    return Snapshot(things, pids)


def leaked(before: Snapshot, watch: Watch, *, patience: float = _PATIENCE) -> list[str]:
    """Return what is there beyond an earlier snapshot, one line for each thing.

    What goes away in the background is waited for.

    :param patience: seconds to wait at most.
    """
    found: list[str] = []

    def gone() -> bool:
        found[:] = _beyond(before, snapshot(watch, before))
        if found:
            gc.collect()  # a descriptor may only wait for its owner, in a circle of references
        return not found

    wait_until(gone, patience)
    return found


def _beyond(before: Snapshot, after: Snapshot) -> list[str]:
    return [
        f"{kind}: {thing}" + (f" ({count} times)" if count > 1 else "")
        for kind, things in after.things.items()
        for thing, count in sorted((things - before.things.get(kind, Counter())).items())
    ]


def wait_until(condition: Callable[[], bool], patience: float = _PATIENCE) -> bool:
    """Ask again and again, with growing pauses, until *condition* holds; whether it came to hold.

    For what nothing tells the end of. The condition is asked at least once.

    :param patience: seconds.
    """
    deadline = time.monotonic() + patience
    pause = _SHORTEST_PAUSE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


def files_below(*folders: Path) -> frozenset[str]:
    """Return the paths of everything below some folders; a folder that is missing has nothing."""
    found: set[str] = set()
    for folder in folders:
        for at, directories, names in os.walk(folder):
            found.update(os.path.join(at, name) for name in (*directories, *names))  # noqa: PTH118 - any bytes
    return frozenset(found)


def unmount_below(folder: Path) -> None:
    """Unmount what a driver has left mounted, so that the folder can be removed."""
    for target in reversed(_mount_points(folder)):
        with contextlib.suppress(OSError):
            umount(target)


def remove_folder(folder: Path) -> bool:
    """Unmount what is below a folder and remove it; whether that could be done.

    Where something stays mounted nothing is removed: it might be removed through the mount.
    """
    unmount_below(folder)
    if _mount_points(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _mount_points(folder: Path) -> list[str]:
    """Return where something is mounted at or below a folder, in the order of mounting."""
    real = str(folder.resolve())
    points = [fields[4] for fields in _mountinfo()]
    return [point for point in points if point == real or point.startswith(f"{real}/")]


def _mountinfo() -> list[list[str]]:
    """Return the fields of each mount of this process's namespace (proc(5)), unescaped."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [[_unescape(field) for field in line.split(b" ")] for line in lines]


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def _mark(folders: tuple[Path, ...]) -> re.Pattern[str]:
    """Return a pattern of the folders' paths and all below, wherever in a text they stand."""
    # Real ones are what the kernel tells; those given stand in arguments, and in mounts' options.
    given = dict.fromkeys(str(one) for folder in folders for one in (folder.resolve(), folder))
    paths = "|".join(map(re.escape, given))
    return re.compile(rf"(?:{paths})(?![\w.-])")


def _mounts(folders: tuple[Path, ...]) -> Iterator[str]:
    if not folders:
        return
    mark = _mark(folders)
    for fields in _mountinfo():
        if any(mark.search(field) for field in fields):
            # Without the ids, which say nothing to a reader.
            yield " ".join(fields[3:])


def _processes(folders: tuple[Path, ...], older: frozenset[int]) -> set[int]:
    """Return the processes that are this one's, or the driver's."""
    holding = holders(_mark(folders), older) if folders else []
    return {*holding, *descendants(os.getpid(), *holding)}


def _named(pids: set[int]) -> Iterator[str]:
    for pid in pids:
        name = name_of(pid)
        if name is not None:
            yield f"{name} (pid {pid})"


def groups_below(*parents: Path) -> Iterator[str]:
    """Yield the paths of the control groups below some, at any depth."""
    waiting = [str(parent) for parent in parents]
    while waiting:
        with contextlib.suppress(OSError):
            below = list(subgroups(waiting.pop()))
            waiting += below
            yield from below


def _descriptors() -> Iterator[str]:
    """Yield what each of this process's descriptors is of, but that of the listing itself."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the descriptor must be gone at once
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - as above


def _links() -> Iterator[str]:
    with NetlinkSocket(ROUTE) as netlink:
        names = {0: "no link"}
        for link in rtnl.links(netlink):
            names[link.index] = link.name
            yield f"{link.kind or 'link'} {link.name}"
        for address in rtnl.addresses(netlink):
            yield f"address {address.interface} of {names.get(address.link, address.link)}"
        for route in rtnl.routes(netlink):
            yield f"route to {route.destination} by {names.get(route.link, route.link)}"
    yield from _links6()


def _links6() -> Iterator[str]:
    """Yield what there is of IPv6, but what the kernel gives every link (proc_pid_net(5))."""
    for line in _lines("if_inet6"):
        packed, _, prefix, _, _, name = line.split()
        address = IPv6Address(bytes.fromhex(packed))
        if not address.is_link_local and name != "lo":
            yield f"address {address}/{int(prefix, 16)} of {name}"
    for line in _lines("ipv6_route"):
        packed, prefix, *_, flags, name = line.split()
        destination = IPv6Network((bytes.fromhex(packed), int(prefix, 16)))
        of_kernel = destination.is_link_local or destination.is_multicast or name == "lo"
        if not of_kernel and not int(flags, 16) & _OF_OWN_ADDRESSES:
            yield f"route to {destination} by {name}"


def _lines(name: str) -> list[str]:
    """Return the lines of a file of the thread's network; none where there is no IPv6."""
    with contextlib.suppress(FileNotFoundError):
        return Path("/proc/thread-self/net", name).read_text(encoding="ascii").splitlines()
    return []
