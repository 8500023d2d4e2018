"""``--network`` and the flags that describe the container's place on it."""

from __future__ import annotations

from pannier.cli.command import UsageError
from pannier.cli.readers import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values

__all__ = ["networking", "user_defined"]

_MAC_PARTS = 6


def user_defined(name: str) -> bool:
    """Say whether a network mode is the name of a network that somebody made."""
    return name not in ("default", "bridge", "host", "none") and not name.startswith("container:")


def networking(values: Values) -> tuple[str, dict[str, Any]]:
    """Return ``NetworkMode`` and ``EndpointsConfig``.

    :raises UsageError: for options that contradict one another.
    """
    given = [*values.many("network"), *values.many("net")]
    networks = [_network(one) for one in given] or [("default", _empty())]
    first, settings = networks[0]
    _from_flags(values, first, settings)
    kinds = {user_defined(name) for name, _ in networks}
    if len(kinds) > 1:
        raise UsageError(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    endpoints: dict[str, Any] = {}
    for name, one in networks:
        if name in endpoints:
            raise UsageError(f'network "{name}" is specified multiple times')
        endpoints[name] = _clean(one)
    if len(networks) == 1 and not endpoints[first]:
        endpoints = {}
    return first, endpoints


def _empty() -> dict[str, Any]:
    return {"Aliases": [], "Links": [], "IPAMConfig": {}, "DriverOpts": {}, "MacAddress": ""}


def _clean(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value}


def _network(spec: str) -> tuple[str, dict[str, Any]]:
    """Read a network's name, or the long form ``name=…,alias=…,ip=…``."""
    settings = _empty()
    if "=" not in spec:
        return spec, settings
    name = ""
    for key, value in fields("network", spec):
        if key == "name":
            name = value or ""
        else:
            _setting(spec, key, value or "", settings)
    if not name:
        raise UsageError(f"network name/id is not specified: {spec}")
    return name, settings


def _setting(spec: str, key: str, text: str, settings: dict[str, Any]) -> None:
    if key == "alias":
        settings["Aliases"].append(text)
    elif key in ("ip", "ip6"):
        settings["IPAMConfig"]["IPv4Address" if key == "ip" else "IPv6Address"] = text
    elif key == "mac-address":
        settings["MacAddress"] = _mac(text)
    elif key == "link-local-ip":
        settings["IPAMConfig"].setdefault("LinkLocalIPs", []).append(text)
    elif key == "driver-opt":
        option, _, rest = text.partition("=")
        settings["DriverOpts"][option] = rest
    elif key == "gw-priority" and text.lstrip("-").isdigit():
        settings["GwPriority"] = int(text)
    else:
        raise UsageError(f"invalid field {key}={text} in --network {spec}")


def _from_flags(values: Values, name: str, settings: dict[str, Any]) -> None:
    aliases = [*values.many("network-alias"), *values.many("net-alias")]
    if aliases and not user_defined(name):
        raise UsageError("network-scoped aliases are only supported for user-defined networks")
    for flag, taken in (
        ("network-alias", settings["Aliases"] and aliases),
        ("ip", values.given("ip") and "IPv4Address" in settings["IPAMConfig"]),
        ("ip6", values.given("ip6") and "IPv6Address" in settings["IPAMConfig"]),
        ("mac-address", values.given("mac-address") and settings["MacAddress"]),
    ):
        if taken:
            raise UsageError(
                f"conflicting options: cannot specify both --{flag} and the same per-network option"
            )
    settings["Aliases"] += aliases
    if user_defined(name):
        settings["Links"] += values.many("link")
    for flag, key in (("ip", "IPv4Address"), ("ip6", "IPv6Address")):
        if values.given(flag):
            settings["IPAMConfig"][key] = values.text(flag)
    if values.many("link-local-ip"):
        settings["IPAMConfig"]["LinkLocalIPs"] = values.many("link-local-ip")
    if values.given("mac-address"):
        settings["MacAddress"] = _mac(values.text("mac-address"))


def _mac(text: str) -> str:
    parts = text.replace("-", ":").split(":")
    try:
        good = len(parts) == _MAC_PARTS and all(len(p) == 2 and int(p, 16) >= 0 for p in parts)
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{text} is not a valid mac address")
    return text
