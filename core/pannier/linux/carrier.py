"""A link's carrier, and that the kernel acts upon it (linux/ethtool.h, netdevice(7))."""

from __future__ import annotations

import ctypes
import fcntl
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pannier.linux.netlink import NetlinkSocket

__all__ = ["settle_carrier"]

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GLINK: Final = 0x0A
_ANSWER: Final = struct.Struct("=II")
_REQUEST: Final = struct.Struct("16sP")


def settle_carrier(netlink: NetlinkSocket, name: str) -> bool:
    """Ask whether a link has a carrier, and have the kernel carry out what follows from it, now.

    When a link comes up the kernel only notes that its carrier has changed. A worker then activates
    its queue and lets a bridge forward to it, whenever it gets hold of the lock that all changes of
    links share: until then every packet is dropped. On a busy host one container in ten lost its
    first packet that way, and a second until the next. The question makes the kernel catch up first
    (``ethtool_op_get_link``).

    :param netlink: any socket of the link's namespace.
    :raises OSError: there is no such link.
    """
    answer = ctypes.create_string_buffer(_ANSWER.pack(_ETHTOOL_GLINK, 0), _ANSWER.size)
    request = _REQUEST.pack(name.encode(), ctypes.addressof(answer))
    fcntl.ioctl(netlink.fileno(), _SIOCETHTOOL, request)
    return bool(_ANSWER.unpack(answer.raw)[1])
