"""``RUN --mount``: one mount's words."""

from __future__ import annotations

import csv
import posixpath
import re
from typing import Final

from pannier.build.instructions import MountType, RunMount
from pannier.errors import InvalidRequest

__all__ = ["parse_mount"]

_SIZE: Final = re.compile(r"(\d{1,15})([kmgt]?)i?b?", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_TRUE: Final = {"", "1", "true"}
_FALSE: Final = {"0", "false"}
_KEYS: Final = {
    MountType.BIND: {"source", "target", "from", "ro"},
    MountType.CACHE: {"source", "target", "from", "ro", "id", "sharing", "mode", "uid", "gid"},
    MountType.TMPFS: {"target", "size"},
    MountType.SECRET: {"id", "target", "required", "mode", "uid", "gid", "source"},
}
_ALIASES: Final = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "readonly": "ro",
}


def parse_mount(text: str) -> RunMount:
    """Parse what follows ``--mount=``.

    :raises InvalidRequest: a key or value is unknown or malformed, or the type is not offered.
    """
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidRequest(f"invalid mount {text[:100]!r}: {error}") from None
    values: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.strip().partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if name in ("rw", "readwrite"):
            name, value = "ro", "false" if _switch(name, value) else "true"
        elif not equals and name not in ("ro", "required"):
            raise InvalidRequest(
                f"invalid field '{field[:50]}' must be a key=value pair", hint="in --mount"
            )
        values[name] = value
    kind = _kind(values.pop("type", "bind"))
    if kind is MountType.SECRET and "env" in values:
        # A container's variables are kept in the engine's database, a secret must not be.
        raise InvalidRequest(
            "a secret as a variable (env=) is not supported",
            hint="read it from its file in the command: TOKEN=$(cat /run/secrets/token) make",
        )
    for name in values:
        if name not in _KEYS[kind]:
            raise InvalidRequest(
                f"unexpected key '{name[:50]}' for mount type '{kind}'",
                hint=f"known are: {', '.join(sorted(_KEYS[kind]))}",
            )
    return _made(kind, values)


def _kind(text: str) -> MountType:
    if text == "ssh":
        raise InvalidRequest(
            "RUN --mount=type=ssh is not supported",
            hint="fetch with a key given as --mount=type=secret",
        )
    try:
        return MountType(text)
    except ValueError:
        raise InvalidRequest(
            f"unsupported mount type {text[:50]!r}", hint="use bind, cache, tmpfs or secret"
        ) from None


def _made(kind: MountType, values: dict[str, str]) -> RunMount:
    target = values.get("target", "")
    identity = values.get("id", "")
    if kind is MountType.SECRET:
        identity = identity or posixpath.basename(values.get("source", "") or target)
        if not identity:
            raise InvalidRequest("a secret mount needs id=", hint="--mount=type=secret,id=token")
        if not target:
            target = f"/run/secrets/{identity}"
    elif not target:
        raise InvalidRequest(f"target is required for mount type '{kind}'", hint="add target=/path")
    elif posixpath.normpath(posixpath.join("/", target)) == "/":
        raise InvalidRequest("a mount's target cannot be the root folder")
    sharing = values.get("sharing", "shared")
    if sharing not in ("shared", "private", "locked"):
        raise InvalidRequest(f"invalid value for sharing: {sharing[:50]!r}")
    writable_by_default = kind is not MountType.BIND
    return RunMount(
        kind,
        target,
        source=values.get("source", ""),
        origin=values.get("from", ""),
        id=identity or (target if kind is MountType.CACHE else ""),
        read_only=_switch("ro", values["ro"]) if "ro" in values else not writable_by_default,
        sharing=sharing,
        required="required" in values and _switch("required", values["required"]),
        mode=_number(values["mode"], "mode", 8) if "mode" in values else None,
        uid=_number(values.get("uid", "0"), "uid"),
        gid=_number(values.get("gid", "0"), "gid"),
        size=_size(values.get("size", "0")),
    )


def _switch(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidRequest(f"invalid value for {name}: {text[:50]!r}", hint="use true or false")


def _number(text: str, name: str, base: int = 10) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 10 or any(character not in digits for character in text):
        raise InvalidRequest(f"invalid value for {name}: {text[:50]!r}")
    number = int(text, base)
    if number > (0o7777 if base == 8 else 0x7FFFFFFF):
        raise InvalidRequest(f"invalid value for {name}: {text[:50]!r} is too large")
    return number


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"invalid value for size: {text[:50]!r}", hint="for instance 64m")
    return int(match[1]) << _UNITS[match[2].lower()]
