"""``pannier plugin new``: a working distribution to begin a driver with.

The templates are in ``plugin_templates`` beside this module: one folder for what all kinds share,
and one for each kind. ``__package__`` in a path, and ``$name`` (:class:`string.Template`) in a
text, are replaced. What is written works as it is and passes the conformance kit.
"""

from __future__ import annotations

import importlib.resources
import os
import re
import shutil
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Final

import pannier
from pannier.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from importlib.resources.abc import Traversable
    from pathlib import Path

__all__ = ["KINDS", "new_plugin"]

_ID: Final = re.compile(r"[a-z](?:[a-z0-9_.-]{0,30}[a-z0-9])?", re.ASCII)
"""A driver's id that can end a distribution's name, too (PEP 508)."""

_SUFFIX: Final = ".tmpl"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the templates need to know of a kind of driver.

    :param short: the kind's word in the distribution's name.
    :param what: the README's sentence; likewise *use* and *table*. *more* is a section of it.
    """

    short: str
    hook: str
    contract: str
    kit: str
    suffix: str
    what: str
    use: str
    table: str
    more: str = ""


_ISOLATION: Final = """\
## What it isolates, and what it does not

A container has mount, pid, network, ipc, uts and cgroup namespaces (as far as it was not told to
share some), a root that it cannot leave, and the capabilities, filter of system calls, masked
and read-only paths that it was given.

It has **no user namespace**: root in a container is the host's root, held back by these alone. The
kernel is the host's. Refused by name are `userns-remap`, `--init`, `--privileged` and `--device`,
`--pid host` and `--pid container:ID`, `--oom-score-adj`, `--domainname`, hooks, and a root whose
mounts spread; so is every field of a specification that it does not know. Limits are the resource
driver's business, as with every runtime.

"""

_TEMPLATES: Final[Mapping[str, _Kind]] = {
    "storage": _Kind(
        short="storage",
        hook="pannier_storage_drivers",
        contract="StorageDriver",
        kit="StorageConformance",
        suffix="Storage",
        what="Every layer and every container is a whole copy of what is below it.",
        use="A container on it: `pannier run --storage-driver $id …`.",
        table='folder = ""  # an absolute path, to keep the trees on another filesystem',
    ),
    "network": _Kind(
        short="net",
        hook="pannier_network_drivers",
        contract="NetworkDriver",
        kit="NetworkConformance",
        suffix="Network",
        what="Every container gets a network namespace with a loopback link in it.",
        use="A container on it: `pannier run --network $id …`.",
        table="loopback = true  # whether the loopback link is brought up",
    ),
    "resources": _Kind(
        short="resources",
        hook="pannier_resource_drivers",
        contract="ResourceDriver",
        kit="ResourceConformance",
        suffix="Resources",
        what="Every container gets a group of cgroup v2, in which the number of processes can be"
        " limited where the host has the controller.",
        use='The daemon works with one resource driver: set `resources = "$id"` in the table'
        " `[drivers]`.",
        table='parent = "$distribution"  # the group in which containers get theirs',
    ),
    "runtime": _Kind(
        short="runtime",
        hook="pannier_runtime_drivers",
        contract="RuntimeDriver",
        kit="RuntimeConformance",
        suffix="Runtime",
        what="Containers run in namespaces of their own on the host's kernel, each under a monitor"
        " of Pannier's that keeps its streams, log and exit status while the daemon is away.",
        use="A container on it: `pannier run --runtime $id …`.",
        table="hidden = []  # paths that no container sees, besides those that it is told to hide",
        more=_ISOLATION,
    ),
    "log": _Kind(
        short="log",
        hook="pannier_log_drivers",
        contract="LogDriver",
        kit="LogConformance",
        suffix="Log",
        what="Every line of a container's output goes into a file of its own, besides what"
        " `pannier logs` shows.",
        use="A container that is logged by it: `pannier run --log-driver $id …`.",
        table='folder = ""  # an absolute path, to keep the files elsewhere',
    ),
}

KINDS: Final = tuple(_TEMPLATES)
"""Of what there is a skeleton: every kind of driver."""


def new_plugin(kind: str, name: str, folder: Path, *, installed: Collection[str] = ()) -> Path:
    """Write the skeleton of a distribution with one driver into a new folder in *folder*.

    The new folder appears whole or not at all, and nothing that is there is overwritten.

    :param name: the driver's id. The distribution is called after the kind and the id.
    :param installed: the ids of drivers of that kind which are installed here.
    :return: the new folder.
    :raises InvalidRequest: the name cannot be one, or the folder cannot be written to.
    :raises Conflict: there is such a driver, or such a folder.
    """
    if kind not in _TEMPLATES:
        raise InvalidRequest(f"there is no kind of driver {kind!r}", hint=f"{', '.join(KINDS)}")
    if not _ID.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot be the id of a driver",
            hint="an id is at most 32 lower-case letters, digits and _.-; it begins with a letter"
            " and ends with a letter or digit",
        )
    if name in installed:
        raise Conflict(
            f"a {kind} driver {name!r} is installed, and of two with one id neither can be used",
            hint="choose another name, or uninstall that one first",
        )
    values = _values(_TEMPLATES[kind], kind, name)
    target = folder / values["distribution"]
    try:
        _write_whole(target, _files(kind, values))
    except FileExistsError as error:
        raise Conflict(f"{target} is there already", hint="remove it, or give --folder") from error
    except OSError as error:
        raise InvalidRequest(
            f"{target} cannot be written: {error.strerror}", hint="name another place with --folder"
        ) from error
    return target


def _values(template: _Kind, kind: str, name: str) -> dict[str, str]:
    # The normalised form of a name (PEP 503), so that it is the one that installers show.
    distribution = re.sub(r"[-_.]+", "-", f"pannier-{template.short}-{name}")
    word = "".join(part.capitalize() for part in re.split(r"[-_.]+", name))
    values = {
        "kind": kind,
        "id": name,
        # In single quotes, which stand in the templates' strings as well as in TOML.
        "key": f"'{name}'" if "." in name else name,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "cls": f"{word}{template.suffix}",
        "config": "Config",
        "hook": template.hook,
        "contract": template.contract,
        "kit": template.kit,
        "version": pannier.__version__,
    }
    for part in ("what", "use", "table", "more"):
        values[part] = Template(getattr(template, part)).substitute(values)
    return values


def _files(kind: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each file's path in the distribution, and its text; a kind's own goes first."""
    templates = importlib.resources.files(pannier) / "plugin_templates"
    found = dict(_below(templates / "common", "")) | dict(_below(templates / kind, ""))
    for path, text in found.items():
        name = path.replace("__package__", values["package"]).removesuffix(_SUFFIX)
        yield name, Template(text).substitute(values)


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield f"{prefix}{entry.name}", entry.read_text(encoding="utf-8")


def _write_whole(target: Path, files: Iterator[tuple[str, str]]) -> None:
    staged = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    staged.mkdir()
    try:
        for name, text in files:
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        # rename(2) replaces an empty folder and no other: this one is ours.
        target.mkdir()
        try:
            staged.rename(target)
        except OSError:
            target.rmdir()
            raise
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
