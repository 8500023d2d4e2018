"""The options of a network: those of Docker's driver of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers.network import NetworkSpec

__all__ = ["Mode", "Options", "read_options"]

PARENT: Final = "parent"
MODE: Final = "macvlan_mode"
MTU: Final = "com.docker.network.driver.mtu"

_SMALLEST_MTU: Final = 68


class Mode(IntEnum):
    """How the links of one parent are connected (linux/if_link.h, ``enum macvlan_mode``)."""

    PRIVATE = 1
    """Not at all."""

    VEPA = 2
    """By the switch that the parent is connected to, which must send frames back (802.1Qbg)."""

    BRIDGE = 4
    """Directly."""

    PASSTHRU = 8
    """There is but one, and it gets all of the parent."""


@dataclass(frozen=True, slots=True)
class Options:
    """A network's options.

    :param parent: the name of the host's link; empty for a network of its own, that leads nowhere.
    :param mtu: in bytes; 0 for the parent's.
    """

    parent: str
    mode: Mode
    mtu: int


def read_options(spec: NetworkSpec) -> Options:
    """Read a network's options.

    :raises InvalidRequest: an option is not known, or its value is none.
    """
    unknown = sorted(set(spec.options) - {PARENT, MODE, MTU})
    if unknown:
        raise InvalidRequest(
            f"network {spec.name}: the macvlan driver has no option {unknown[0]}",
            hint=f"its options are {PARENT}, {MODE} and {MTU}",
        )
    parent = spec.options.get(PARENT, "")
    if parent == "lo":
        raise InvalidRequest(
            f"network {spec.name}: loopback interface is not a valid macvlan parent link",
            hint=f"name a link of the host that leads to others: -o {PARENT}=eth0",
        )
    return Options(parent, _mode(spec), _mtu(spec))


def _mode(spec: NetworkSpec) -> Mode:
    text = spec.options.get(MODE) or Mode.BRIDGE.name
    for mode in Mode:
        if text.upper() == mode.name:
            return mode
    raise InvalidRequest(
        f"network {spec.name}: requested macvlan mode '{text}' is not valid, 'bridge' mode is the "
        f"macvlan driver default",
        hint=f"the modes are {', '.join(mode.name.lower() for mode in Mode)}",
    )


def _mtu(spec: NetworkSpec) -> int:
    text = spec.options.get(MTU) or "0"
    if not (text.isascii() and text.isdecimal()) or 0 < int(text) < _SMALLEST_MTU:
        raise InvalidRequest(
            f"network {spec.name}: {MTU} is {text!r}, and no number of bytes",
            hint="leave it out to have the parent's",
        )
    return int(text)
