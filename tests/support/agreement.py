"""Whether database, disk and kernel agree about a daemon's containers, and whose processes live."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.daemon import Daemon

__all__ = ["Family", "disagreements", "family", "settled"]


@dataclass(frozen=True)
class Family:
    """The processes of a daemon that lives.

    :param helpers: its descendants, of which new containers' monitors are forked.
    :param monitors: of each container, found by the files that they hold open.
    :param strays: others in the daemon's network namespace that are no container's.
    :param dead: zombies among all of these.
    """

    daemon: int
    helpers: frozenset[int]
    monitors: frozenset[int]
    strays: frozenset[int]
    dead: frozenset[int]


def family(daemon: Daemon) -> Family:
    """Look at every process of this machine."""
    assert daemon.process is not None
    root = daemon.process.pid
    parents: dict[int, int] = {}
    dead: set[int] = set()
    here: set[int] = set()
    monitors: set[int] = set()
    inside = os.stat(f"/proc/{root}/ns/net")  # noqa: PTH116 - as samestat takes it
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):  # noqa: PTH208
        with contextlib.suppress(OSError):
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            parents[pid] = int(parent)
            if state == "Z":
                dead.add(pid)
                continue
            if os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), inside):  # noqa: PTH116
                here.add(pid)
            if pid != root and _holds(pid, f"{daemon.folder}/state/runtime"):
                monitors.add(pid)
    helpers = _below({root}, parents)
    contained = _below(monitors, parents)
    mine = helpers | monitors | contained
    return Family(
        root,
        frozenset(helpers - monitors - contained),
        frozenset(monitors),
        frozenset(here - mine - {root}),
        frozenset(dead & _below(mine | {root}, parents)),
    )


def _holds(pid: int, prefix: str) -> bool:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):  # noqa: PTH208 - names are wanted
        with contextlib.suppress(OSError):
            if os.readlink(f"{folder}/{name}").startswith(prefix):  # noqa: PTH115
                return True
    return False


def _below(tops: set[int], parents: dict[int, int]) -> set[int]:
    found = set(tops)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - tops


def settled(look: Callable[[], list[str]], seconds: float = 60.0) -> list[str]:
    """Look until there is nothing to find; return what is left after *seconds*.

    Containers are taken apart in the background, of which nothing tells the end.
    """
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def disagreements(daemon: Daemon) -> list[str]:
    """Compare what the engine says of its containers with what disk and kernel have of them."""
    rows = daemon.cli("ps", "-aq", "--no-trunc").stdout.split()
    found = json.loads(daemon.cli("inspect", *rows).stdout) if rows else []
    facts: dict[str, dict[str, Any]] = {fact["Id"]: fact for fact in found}
    running = {id for id, fact in facts.items() if fact["State"]["Running"]}
    bridged = {id for id in running if "bridge" in facts[id]["NetworkSettings"]["Networks"]}
    processes = family(daemon)
    compared: list[tuple[str, object, object]] = [
        ("monitors", len(processes.monitors), len(running)),
        ("stray processes", _named(processes.strays), []),
        ("zombies", _named(processes.dead), []),
        *_on_disk(daemon, set(facts), running, bridged),
        *_in_kernel(daemon, running),
        *_in_network(daemon, [facts[id] for id in running]),
    ]
    return [f"{name}: {here} for {there}" for name, here, there in compared if here != there] + [
        f"{id}: its process has gone"
        for id in running
        if not Path(f"/proc/{facts[id]['State']['Pid']}").exists()
    ]


def _named(pids: frozenset[int]) -> list[str]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found.append(f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
    return found


def _on_disk(
    daemon: Daemon, listed: set[str], running: set[str], bridged: set[str]
) -> list[tuple[str, object, object]]:
    storage = daemon.folder / "root/storage/overlay"
    volumes = set(daemon.cli("volume", "ls", "-q").stdout.split())
    named = [path.name for path in daemon.folder.iterdir() if path.name.startswith(".")]
    return [
        ("folders", _in(daemon.folder / "root/containers"), listed),
        ("writable layers", _in(storage / "containers"), listed),
        ("layers in the making", _in(storage / "staging"), set()),
        ("damaged layers", _in(storage / "damaged"), set()),
        ("layers to remove", _in(storage / "trash"), set()),
        ("volumes", _in(daemon.folder / "root/volumes"), volumes),
        ("runtime state", _in(daemon.folder / "state/runtime/native/containers"), running),
        ("leases", _leases(daemon), bridged),
        ("sockets in the making", named, []),
    ]


def _in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _leases(daemon: Daemon) -> set[str]:
    """Replay the bridge driver's journal: a record or null for each key."""
    records: dict[str, dict[str, Any] | None] = {}
    for line in (daemon.folder / "root/network/bridge/endpoints.journal").read_text().splitlines():
        key, value = json.loads(line)
        records[key] = value
    return {record["container"] for record in records.values() if record is not None}


def _in_kernel(daemon: Daemon, running: set[str]) -> list[tuple[str, object, object]]:
    table = Path("/proc/self/mounts").read_text().splitlines()
    found: list[tuple[str, object, object]] = [
        ("mounts", [line for line in table if str(daemon.folder) in line], [])
    ]
    for top, names, _ in os.walk("/sys/fs/cgroup"):
        if Path(top).name == daemon.group:
            found.append((f"groups in {Path(top).parent}", set(names), running))
            names.clear()
    return found


def _in_network(daemon: Daemon, running: list[dict[str, Any]]) -> list[tuple[str, object, object]]:
    joined = sum(
        len(fact["NetworkSettings"]["Networks"].keys() - {"host", "none"}) for fact in running
    )
    published = {
        (protocol, int(binding["HostPort"]), int(port), _address(fact))
        for fact in running
        for name, bindings in (fact["NetworkSettings"]["Ports"] or {}).items()
        for port, _, protocol in [name.partition("/")]
        for binding in bindings or ()
    }
    with daemon.inside():
        with IPRoute() as route:
            links = sum(1 for link in route.get_links() if link.get_attr("IFLA_MASTER"))
        asked = ["nft", "--json", "list", "map", "ip", "pannier", "ports_any"]
        told = subprocess.run(asked, capture_output=True, check=True, timeout=30).stdout
    (elements,) = (
        item["map"].get("elem", []) for item in json.loads(told)["nftables"] if "map" in item
    )
    forwarded = {
        (source["concat"][0], source["concat"][1], target["concat"][1], target["concat"][0])
        for source, target in elements
    }
    return [("links", links, joined), ("published ports", forwarded, published)]


def _address(fact: dict[str, Any]) -> str:
    address: str = fact["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return address
