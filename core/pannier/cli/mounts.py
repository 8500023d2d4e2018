"""``-v``, ``--mount`` and ``--tmpfs``."""

from __future__ import annotations

import os

from pannier.cli.command import UsageError
from pannier.cli.readers import fields, wrong
from pannier.cli.units import parse_size
from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["mount", "tmpfs", "volumes"]

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})
#: Which prefix of a field's name belongs to which type of mount.
_PREFIXES = {"bind-": "bind", "volume-": "volume", "tmpfs-": "tmpfs", "image-": "image"}
_RECURSIVE = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def volumes(specs: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return ``Binds`` and ``Volumes`` for ``-v`` values.

    :raises UsageError: where one is malformed.
    """
    binds, anonymous = [], {}
    for spec in specs:
        parts = spec.split(":")
        if not spec:
            raise UsageError("invalid empty volume spec")
        if "" in parts:
            raise UsageError(f"invalid spec: {spec}: empty section between colons")
        if len(parts) == 1:
            anonymous[spec] = dict[str, str]()
            continue
        if parts[0].startswith("."):
            # The daemon does not know where the user stands.
            parts[0] = os.path.abspath(parts[0])  # noqa: PTH100 - pathlib costs 5 ms
        binds.append(":".join(parts))
    return binds, anonymous


def tmpfs(specs: list[str]) -> dict[str, str]:
    """Return ``Tmpfs`` for ``--tmpfs`` values: ``/path[:options]``."""
    pairs = (spec.partition(":") for spec in specs)
    return {path: options for path, _, options in pairs}


def mount(spec: str) -> dict[str, Any]:
    """Return one of ``Mounts`` for a ``--mount`` value.

    :raises UsageError: where it is malformed or mixes types.
    """
    found: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {}
    for given, value in fields("mount", spec):
        key = _ALIASES.get(given, given)
        if value is None and key not in ("readonly", "volume-nocopy", "bind-nonrecursive"):
            raise wrong("mount", spec, f"invalid field '{given}' must be a key=value pair")
        text = value or ""
        if key == "type":
            found["Type"] = text.lower()
        elif key in ("source", "target", "consistency"):
            found[key.title()] = text
        elif key == "readonly":
            found["ReadOnly"] = _switch(spec, given, value)
        else:
            _option(spec, key, value, options)
    if found["Type"] == "bind" and str(found.get("Source", "")).startswith("."):
        found["Source"] = os.path.abspath(found["Source"])  # noqa: PTH100 - as above
    _check(spec, found, options)
    for name, title in (("bind", "Bind"), ("volume", "Volume"), ("tmpfs", "Tmpfs")):
        if options.get(name):
            found[f"{title}Options"] = options[name]
    if options.get("image"):
        found["ImageOptions"] = options["image"]
    return found


def _check(spec: str, found: dict[str, Any], options: dict[str, Any]) -> None:
    if not found["Type"]:
        raise wrong("mount", spec, "type is required")
    if not found.get("Target"):
        raise wrong("mount", spec, "target is required")
    for name in options:
        if name != found["Type"]:
            raise wrong(
                "mount", spec, f"cannot mix '{name}-*' options with mount type '{found['Type']}'"
            )
    bind = options.get("bind", {})
    modes = ("writable", "readonly")
    chosen = next((mode for mode in modes if _RECURSIVE[mode].items() <= bind.items()), "")
    if chosen and not found.get("ReadOnly"):
        raise _incomplete(spec, chosen, "readonly")
    if chosen == "readonly" and bind.get("Propagation") != "rprivate":
        raise _incomplete(spec, chosen, "bind-propagation=rprivate")


def _incomplete(spec: str, chosen: str, wanted: str) -> UsageError:
    reason = f"option 'bind-recursive={chosen}' requires '{wanted}' to be specified in conjunction"
    return wrong("mount", spec, reason)


def _switch(spec: str, key: str, value: str | None) -> bool:
    if value is None or value.lower() in _TRUE:
        return True
    if value.lower() not in _FALSE:
        raise wrong("mount", spec, f"invalid value for {key}: {value}")
    return False


def _option(spec: str, key: str, value: str | None, options: dict[str, dict[str, Any]]) -> None:
    kind = next((one for prefix, one in _PREFIXES.items() if key.startswith(prefix)), None)
    if kind is None:
        raise wrong("mount", spec, f"unexpected key '{key}' in '{key}={value}'")
    group = options.setdefault(kind, {})
    text = value or ""
    try:
        if kind == "bind":
            _bind(spec, key, value, group)
        elif kind == "volume":
            _volume(spec, key, value, group)
        elif key == "tmpfs-size":
            group["SizeBytes"] = parse_size(text)
        elif key == "tmpfs-mode":
            group["Mode"] = int(text, 8)
        elif key == "image-subpath":
            group["Subpath"] = text
        else:
            raise wrong("mount", spec, f"unexpected key '{key}' in '{key}={value}'")
    except UsageError:
        raise
    except (ValueError, InvalidRequest):
        raise wrong("mount", spec, f"invalid value for {key}: {value}") from None


def _bind(spec: str, key: str, value: str | None, group: dict[str, Any]) -> None:
    if key == "bind-propagation":
        group["Propagation"] = (value or "").lower()
    elif key == "bind-nonrecursive":
        group["NonRecursive"] = _switch(spec, key, value)
    elif key == "bind-recursive":
        chosen = _RECURSIVE.get(value or "")
        if chosen is None:
            raise wrong(
                "mount",
                spec,
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or '
                f'"readonly")',
            )
        group.update(chosen)
    elif key == "bind-create-src":
        group["CreateMountpoint"] = _switch(spec, key, value)
    else:
        raise wrong("mount", spec, f"unexpected key '{key}' in '{key}={value}'")


def _volume(spec: str, key: str, value: str | None, group: dict[str, Any]) -> None:
    text = value or ""
    name, _, rest = text.partition("=")
    if key == "volume-nocopy":
        group["NoCopy"] = _switch(spec, key, value)
    elif key == "volume-label":
        group.setdefault("Labels", {})[name] = rest
    elif key == "volume-subpath":
        group["Subpath"] = text
    elif key == "volume-driver":
        group.setdefault("DriverConfig", {})["Name"] = text
    elif key == "volume-opt":
        group.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = rest
    else:
        raise wrong("mount", spec, f"unexpected key '{key}' in '{key}={value}'")
