"""A bundle's ``config.json``: read, checked, and put into the form that the runtime takes.

Source: OCI runtime specification, config.md and config-linux.md.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import TYPE_CHECKING, Any, cast

from pannier.drivers import oci
from pannier.drivers.base import IdMap, IdMapping
from pannier.errors import InvalidRequest
from pannier.linux.capabilities import CAPABILITIES, permitted
from pannier.linux.userns import read_maps
from pannier_oci.shape import check_shape

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.linux.userns import Ranges

__all__ = [
    "VERSIONS",
    "grant",
    "id_map",
    "learn_maps",
    "load_process",
    "load_spec",
    "without_nulls",
]

VERSIONS = ("1.0.0", "1.3.0")
"""The first and the last version of the specification that is understood."""

_VERSION = re.compile(r"1\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
_SETS = frozenset({"bounding", "effective", "inheritable", "permitted", "ambient"})
_NEEDED = {"ociVersion": str, "root": dict}
_log = logging.getLogger(__name__)


def load_spec(bundle: Path) -> oci.Spec:
    """Return the configuration of the bundle, its paths made absolute.

    Without a process it has one without arguments: such a container can be created, not started.

    :raises InvalidRequest: there is none, or it is malformed.
    """
    path = bundle / "config.json"
    spec: Any = without_nulls(_load(path))
    for key, kind in _NEEDED.items():
        if not isinstance(spec.get(key), kind):
            raise InvalidRequest(f"{path}: {key} is missing, or no {kind.__name__}")
    spec.setdefault("linux", {})
    given = "process" in spec
    if not isinstance(spec.setdefault("process", {"cwd": "/"}), dict):
        raise InvalidRequest(f"{path}: process is no dict")
    _complete_process(spec["process"])
    # Without a word on capabilities a program has none, as with other runtimes.
    spec["process"].setdefault("capabilities", {})
    check_shape(spec, oci.Spec, "")
    if not _VERSION.fullmatch(spec["ociVersion"]):
        raise InvalidRequest(
            f"{path}: the specification's version {spec['ociVersion']!r} is not supported",
            hint=f"versions {VERSIONS[0]} to {VERSIONS[1]} are",
        )
    if given:
        _check_process(spec["process"])
    root = spec["root"].get("path")
    if not root:
        raise InvalidRequest(f"{path}: root.path is missing")
    spec["root"]["path"] = str(bundle / root)
    _check_paths(spec)
    _place_sources(spec, bundle)
    return cast("oci.Spec", spec)


def load_process(path: Path) -> oci.Process:
    """Return the process that a file describes, for a container that runs.

    :raises InvalidRequest: there is none, or it is malformed.
    """
    process = without_nulls(_load(path))
    _complete_process(process)
    check_shape(process, oci.Process, "process")
    _check_process(process)
    return cast("oci.Process", process)


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InvalidRequest(f"JSON specification file {path} not found") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path}: an object is expected")
    return found


def without_nulls(value: Any) -> Any:
    """Return a value without the properties that are null: as if they had not been given."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _complete_process(process: dict[str, Any]) -> None:
    user = process.setdefault("user", {})
    if isinstance(user, dict):
        user.setdefault("uid", 0)
        user.setdefault("gid", 0)
    process.setdefault("args", [])
    process.setdefault("cwd", "")


def _check_process(process: dict[str, Any]) -> None:
    if not process["args"]:
        raise InvalidRequest("process.args must not be empty")
    if not process["cwd"].startswith("/"):
        raise InvalidRequest("process.cwd must be an absolute path")


def _check_paths(spec: dict[str, Any]) -> None:
    """Check the paths that the specification wants absolute, and the annotations' names."""
    linux = spec["linux"]
    paths = [
        *(("linux.namespaces", item["path"]) for item in linux.get("namespaces", ())
          if item.get("path")),
        *(("linux.devices", item["path"]) for item in linux.get("devices", ())),
        *((f"linux.{name}", path) for name in ("maskedPaths", "readonlyPaths")
          for path in linux.get(name, ())),
    ]  # fmt: skip
    for field, path in paths:
        if not path.startswith("/"):
            raise InvalidRequest(f"{field}: the path {path!r} is not absolute")
    if "" in spec.get("annotations", {}):
        raise InvalidRequest("annotations: a key must not be empty")


def _place_sources(spec: dict[str, Any], bundle: Path) -> None:
    """Take relative sources of binds as relative to the bundle."""
    for mount in spec.get("mounts", ()):
        options = mount.get("options") or ()
        if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
            mount["source"] = str(bundle / mount.get("source", ""))


def learn_maps(spec: oci.Spec) -> None:
    """Put the maps of a user namespace to join into the configuration, which need not have them.

    :raises InvalidRequest: it is no user namespace, or the configuration says other maps.
    """
    linux = spec["linux"]
    for item in linux.get("namespaces") or ():
        if item["type"] != "user" or not item.get("path"):
            continue
        try:
            namespace = os.open(item["path"], os.O_RDONLY | os.O_CLOEXEC)
            try:
                uids, gids = read_maps(namespace)
            finally:
                os.close(namespace)
        except OSError as error:
            raise InvalidRequest(
                f"cannot join the user namespace {item['path']}: {error.strerror}"
            ) from error
        for name, found in (("uidMappings", uids), ("gidMappings", gids)):
            said = linux.get(name) or ()
            if said and {*_ranges(said)} != {IdMapping(*row) for row in found}:
                raise InvalidRequest(f"linux.{name} is not what the namespace {item['path']} has")
        linux["uidMappings"], linux["gidMappings"] = _entries(uids), _entries(gids)


def _entries(rows: Ranges) -> list[oci.IdMapEntry]:
    return [
        {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in rows
    ]


def id_map(spec: oci.Spec) -> IdMap | None:
    """Return the maps of the container's user namespace; None without one.

    Of one to join the maps have to be known by now: see :func:`learn_maps`.

    :raises InvalidRequest: there are maps without a namespace, or the other way round.
    """
    linux = spec["linux"]
    uids, gids = linux.get("uidMappings") or (), linux.get("gidMappings") or ()
    wanted = any(item["type"] == "user" for item in linux.get("namespaces") or ())
    if wanted != bool(uids and gids):
        raise InvalidRequest(
            "a user namespace needs linux.uidMappings and linux.gidMappings, and they need one"
        )
    if not wanted:
        return None
    return IdMap(_ranges(uids), _ranges(gids))


def _ranges(entries: Any) -> tuple[IdMapping, ...]:
    return tuple(
        IdMapping(entry["containerID"], entry["hostID"], entry["size"]) for entry in entries
    )


def grant(process: oci.Process, *, mapped: bool) -> None:
    """Leave capabilities out that cannot be granted, with a warning, as the specification wants.

    :param mapped: the process is in a user namespace of its own, which has them all.
    """
    given = cast("dict[str, list[str]]", process.get("capabilities") or {})
    sets = {kind: names for kind, names in given.items() if kind in _SETS}
    offered = frozenset(CAPABILITIES) if mapped else permitted()
    missing = {name for names in sets.values() for name in names or () if name not in offered}
    for name in sorted(missing):
        _log.warning("the capability %s cannot be granted, and is left out", name)
    for kind, names in sets.items():
        sets[kind] = [name for name in names or () if name not in missing]
    given.update(sets)
    if "ambient" in sets:
        possible = {*sets.get("permitted", ())} & {*sets.get("inheritable", ())}
        # The kernel takes no others: capabilities(7), "Ambient".
        if beyond := [name for name in sets["ambient"] if name not in possible]:
            _log.warning("not inheritable, and so not made ambient: %s", ", ".join(beyond))
        given["ambient"] = [name for name in sets["ambient"] if name in possible]
