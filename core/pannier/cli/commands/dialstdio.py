"""``pannier system dial-stdio``: the daemon's socket as this process's input and output.

What ``ssh://`` addresses run on the other host.
"""

from __future__ import annotations

import os
import select
import socket

from pannier.cli.command import Command
from pannier.cli.session import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["DIAL_STDIO"]

_PIECE = 256 * 1024
_IN, _OUT = 0, 1


def _dial(ctx: Context, values: Values) -> int:
    del values
    connection = ctx.client.connect()
    sock = connection.sock
    poll = select.poll()
    poll.register(_IN, select.POLLIN)
    poll.register(sock, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if sock.fileno() in ready:
            data = sock.recv(_PIECE)
            if not data:
                return 0
            write_all(_OUT, data)
        if _IN in ready:
            data = os.read(_IN, _PIECE)
            if data:
                sock.sendall(data)
            else:
                # The other side has no more to ask; answers still come.
                poll.unregister(_IN)
                sock.shutdown(socket.SHUT_WR)


DIAL_STDIO = Command(
    "system dial-stdio",
    "Proxy standard input and output to the daemon's socket",
    _dial,
    example="ssh root@example.com pannier system dial-stdio",
)
