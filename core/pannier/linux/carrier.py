"""A link's carrier, and that the kernel acts upon it (linux/ethtool.h, netdevice(7))."""

from __future__ import annotations

import ctypes
import fcntl
import struct
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pannier.linux.netlink import NetlinkSocket

__all__ = ["settle_carrier"]

_SIOCGIFFLAGS: Final = 0x8913
_IFF_RUNNING: Final = 0x40
_FLAGS: Final = struct.Struct("16sH22x")

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GLINK: Final = 0x0A
_ANSWER: Final = struct.Struct("=II")
_REQUEST: Final = struct.Struct("16sP")

_PATIENCE: Final = 1.0
_PAUSE: Final = 0.0005


def settle_carrier(netlink: NetlinkSocket, name: str) -> bool:
    """Ask whether a link has a carrier, and return once the kernel has done what follows from it.

    When a link comes up the kernel only notes that its carrier has changed. A worker then activates
    its queue and lets a bridge forward to it, whenever it gets hold of the lock that all changes of
    links share: until then every packet is dropped. On a busy host one container in ten lost its
    first packet that way, and a second until the next. From Linux 6.8 on the question makes the
    kernel catch up first (``ethtool_op_get_link``); before, the worker is waited for, a second at
    most.

    :param netlink: any socket of the link's namespace.
    :raises OSError: there is no such link.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        carrier = _has_carrier(netlink, name)
        if not carrier or _is_running(netlink, name) or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    # The worker marks a link as running before it is through. The question takes its lock.
    return carrier and _has_carrier(netlink, name)


def _has_carrier(netlink: NetlinkSocket, name: str) -> bool:
    answer = ctypes.create_string_buffer(_ANSWER.pack(_ETHTOOL_GLINK, 0), _ANSWER.size)
    request = _REQUEST.pack(name.encode(), ctypes.addressof(answer))
    fcntl.ioctl(netlink.fileno(), _SIOCETHTOOL, request)
    return bool(_ANSWER.unpack(answer.raw)[1])


def _is_running(netlink: NetlinkSocket, name: str) -> bool:
    """Say whether a link's operational state follows its carrier (RFC 2863)."""
    answer = fcntl.ioctl(netlink.fileno(), _SIOCGIFFLAGS, _FLAGS.pack(name.encode(), 0))
    return bool(_FLAGS.unpack(answer)[1] & _IFF_RUNNING)
