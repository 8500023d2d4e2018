"""Connections that are no plain sockets: TLS, and ssh to a daemon on another host.

Either is made to look like one: one end of a socket pair is given to the client, and the other is
served by a thread (TLS) or by ssh itself. So every part of the client may poll it, end its input
and go on reading, or send a file through it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading

from pannier.certificates import load_authorities, load_identity
from pannier.client.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.client.address import Address, TlsFiles

__all__ = ["dial"]

_PIECE = 256 * 1024
_CONNECT_TIMEOUT = 10.0


def dial(address: Address, timeout: float | None) -> socket.socket:
    """Return a connected socket.

    :param timeout: of the socket that is returned, in seconds.
    :raises ConnectionFailed: the other side is not who it should be, or ssh is not there.
    :raises OSError: nobody answers.
    """
    sock = _ssh(address) if address.ssh else _tls(address)
    sock.settimeout(timeout)
    return sock


class _Carried(socket.socket):
    """The client's end, which knows why the other side ended it.

    :param why: returns that, given whether anything was ever received; None for nothing special.
    """

    def __init__(self, mine: socket.socket, why: Callable[[bool], ConnectionFailed | None]) -> None:
        super().__init__(fileno=mine.detach())
        self._why = why
        self._received = False

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        try:
            data = super().recv(size, flags)
        except ConnectionResetError:
            self._explain()
            raise
        if data:
            self._received = True
        else:
            self._explain()
        return data

    def _explain(self) -> None:
        why = self._why(self._received)
        if why is not None:
            raise why


# ssh.


def ssh_command(address: Address) -> list[str]:
    """Return what reaches an address by ssh."""
    command = ["ssh", "-T", "-o", "ConnectTimeout=30"]
    if address.user:
        command += ["-l", address.user]
    if address.port:
        command += ["-p", str(address.port)]
    command += ["--", address.host, "pannier"]
    if address.path:
        command += ["--host", f"unix://{address.path}"]
    return [*command, "system", "dial-stdio"]


def _ssh(address: Address) -> socket.socket:
    mine, theirs = socket.socketpair()
    try:
        with theirs:
            end = theirs.fileno()
            # In a session of its own: Ctrl-C is for the command, and not for its connection. It
            # ends with the connection, and this process does not outlive it for long.
            os.posix_spawnp(
                "ssh",
                ssh_command(address),
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, end, 0), (os.POSIX_SPAWN_DUP2, end, 1)],
                setsid=True,
            )
    except FileNotFoundError as error:
        mine.close()
        raise ConnectionFailed(
            f"cannot connect to the daemon at {address}: there is no ssh",
            hint="install an ssh client",
        ) from error

    def why(received: bool) -> ConnectionFailed | None:  # noqa: FBT001 - called by position
        if received:
            return None
        return ConnectionFailed(
            f"cannot connect to the daemon at {address}: ssh ended without an answer",
            hint="ssh's own words stand above; `pannier` must be found over there",
        )

    return _Carried(mine, why)


# TLS.


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif files.ca:
        load_authorities(context, files.ca)
    else:
        context.load_default_certs()
    if files.certificate and files.key:
        load_identity(context, files.certificate, files.key)
    return context


def _tls(address: Address) -> socket.socket:
    assert address.tls is not None
    context = _context(address.tls)
    raw = socket.create_connection((address.host, address.port), _CONNECT_TIMEOUT)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = _Channel(context, raw, address.host)
        channel.handshake()
        raw.settimeout(None)
    except ssl.SSLCertVerificationError as error:
        raw.close()
        raise ConnectionFailed(
            f"cannot connect to the daemon at {address}: its certificate is not trusted: "
            f"{error.verify_message}",
            hint="DOCKER_CERT_PATH or --tlscacert names the authority that signed it",
        ) from error
    except ssl.SSLError as error:
        raw.close()
        raise _refused(address, error) from error
    except ConnectionResetError as error:
        raw.close()
        raise ConnectionFailed(
            f"cannot connect to the daemon at {address}: {error}", hint=_IDENTIFY
        ) from error
    except BaseException:
        raw.close()
        raise
    mine, theirs = socket.socketpair()
    threading.Thread(target=channel.carry, args=(theirs,), daemon=True).start()

    def why(received: bool) -> ConnectionFailed | None:  # noqa: FBT001 - called by position
        # With TLS 1.3 a client is through with its handshake before the daemon has seen its
        # certificate, and learns what that is worth in place of the first answer.
        del received
        return None if channel.failure is None else _refused(address, channel.failure)

    return _Carried(mine, why)


_IDENTIFY = "DOCKER_CERT_PATH, or --tlscert and --tlskey, name a certificate that it knows"


def _refused(address: Address, error: ssl.SSLError) -> ConnectionFailed:
    """Return what a failed handshake means to a user."""
    reason = error.reason or ""
    begin = f"cannot connect to the daemon at {address}: "
    _, alert, why = reason.partition("_ALERT_")
    if alert:
        # The other side's own word, such as UNKNOWN_CA.
        words = why.lower().replace("_", " ")
        return ConnectionFailed(f"{begin}it refuses this client: {words}", hint=_IDENTIFY)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return ConnectionFailed(f"{begin}it does not speak TLS", hint="leave out --tls there")
    return ConnectionFailed(begin + str(error), hint=_IDENTIFY)


class _Channel:
    """TLS on a socket, each direction of which can end by itself, which ssl.SSLSocket cannot."""

    def __init__(self, context: ssl.SSLContext, raw: socket.socket, host: str) -> None:
        self._raw = raw
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=host)
        #: What ended the connection, if TLS did; set before the client's end is closed.
        self.failure: ssl.SSLError | None = None

    def _flush(self) -> None:
        data = self._to_send.read()
        if data:
            self._raw.sendall(data)

    def handshake(self) -> None:
        """Agree on keys."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._raw.recv(_PIECE)
                if not data:
                    raise ConnectionResetError("the daemon ended the connection") from None
                self._received.write(data)
            else:
                self._flush()
                return

    def carry(self, local: socket.socket) -> None:
        """Encrypt what comes from *local*, and decrypt what goes to it, until that has ended.

        One direction waits while the other's receiver does not take what it is sent; the daemon's
        side reads its input whatever becomes of its output, so they do not wait for each other.
        """
        with contextlib.suppress(OSError), local, self._raw:
            poll = select.poll()
            for source in (local, self._raw):
                poll.register(source, select.POLLIN)
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._raw.fileno() in ready and not self._inward(local):
                    return
                if local.fileno() in ready and not self._outward(local):
                    poll.unregister(local)

    def _outward(self, local: socket.socket) -> bool:
        data = local.recv(_PIECE)
        if data:
            self._tls.write(data)
        else:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # says that no more comes; an answer still may
        try:
            self._flush()
        except OSError:
            return False  # what the daemon had to say before it left may still be read
        return bool(data)

    def _inward(self, local: socket.socket) -> bool:
        data = self._raw.recv(_PIECE)
        if not data:
            return False
        self._received.write(data)
        while True:
            try:
                plain = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                self._flush()
                return True
            except ssl.SSLError as error:
                self.failure = error
                return False
            if not plain:
                return False
            local.sendall(plain)
