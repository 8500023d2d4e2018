"""What every command is handed: the client, and where its words go."""

from __future__ import annotations

import os
import sys

from pannier.client import APIError, Client, ConnectionFailed, resolve_address
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pannier.client.address import Address, TlsFiles

__all__ = ["Context"]

_MISSING = 404


class Context:
    """The global options, the client they lead to, and the output.

    :param host: ``--host``.
    :param config: ``--config``: the configuration file.
    :param debug: show tracebacks.
    :param context: ``--context``: the docker context to use.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        config: str | None = None,
        debug: bool = False,
        context: str | None = None,
    ) -> None:
        self.context = context
        #: ``--tls`` and ``--tlsverify``; None where the latter was not given.
        self.tls = False
        self.tlsverify: bool | None = None
        #: ``--tlscacert``, ``--tlscert`` and ``--tlskey``.
        self.tlscacert: str | None = None
        self.tlscert: str | None = None
        self.tlskey: str | None = None
        self.host = host
        self.config = config
        self.debug = debug
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client; made when it is first asked for, connected when it is first used.

        :raises PannierError: where the address or the configuration file is wrong.
        """
        if self._client is None:
            address = self._address()
            start = None if address.explicit or os.geteuid() else self._start
            self._client = Client(address, on_refused=start)
        return self._client

    def ask_running(self, path: str) -> Any:
        """GET a JSON value of a daemon that runs; None where none does. None is started.

        :raises PannierError: no daemon answers at an address that was asked for.
        """
        address = self._address()
        client = Client(address)
        try:
            return client.get(path)
        except ConnectionFailed:
            if address.explicit:
                raise
            return None
        finally:
            client.close()

    def _address(self) -> Address:
        return resolve_address(self.host, self.config, context=self.context, tls=self._tls_files())

    def _tls_files(self) -> TlsFiles | None:
        named = (self.tlscacert, self.tlscert, self.tlskey)
        if not (self.tls or self.tlsverify is not None or any(named)):
            return None
        from pannier.client.address import docker_folder, tls_from_folder

        folder = os.environ.get("DOCKER_CERT_PATH") or docker_folder(os.environ)
        # --tls alone does not ask who the daemon is, nor does --tlsverify=false, as with docker.
        verify = self.tlsverify
        if verify is None:
            verify = any(named) and not self.tls
        files = tls_from_folder(folder, verify=verify)
        files.ca = self.tlscacert or files.ca
        files.certificate = self.tlscert or files.certificate
        files.key = self.tlskey or files.key
        return files

    def close(self) -> None:
        """Close the client's kept connection, if it has one."""
        if self._client is not None:
            self._client.close()

    def _start(self) -> bool:
        from pannier.client.launch import start_daemon

        config = self.config or os.environ.get("PANNIER_CONFIG")
        start_daemon(self.client.address.path, ["--config", config] if config else [])
        return True

    def out(self, line: str) -> None:
        """Print a line on stdout."""
        sys.stdout.write(line + "\n")

    def err(self, line: str) -> None:
        """Print a line on stderr, after what stdout has."""
        sys.stdout.flush()
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def warn(self, warnings: Iterable[str] | None) -> None:
        """Print the daemon's warnings."""
        for one in warnings or ():
            self.err(f"WARNING: {one}")

    def each(
        self,
        names: Iterable[str],
        do: Callable[[str], object],
        *,
        echo: bool = True,
        forced: bool = False,
    ) -> int:
        """Do something for each name; print the name, or why not; return the exit status.

        One that fails does not keep the others from being done.

        :param forced: what is not there is said, and is no failure.
        """
        status = 0
        for name in names:
            try:
                do(name)
            except PannierError as error:
                self.report(error)
                if not (forced and isinstance(error, APIError) and error.code == _MISSING):
                    status = 1
            else:
                if echo:
                    self.out(name)
        return status

    def report(self, error: BaseException) -> None:
        """Print a known failure: one line, and what to do about it."""
        message = str(error).rstrip() or type(error).__name__
        self.err(f"Error: {message}")
        hint = getattr(error, "hint", None)
        if hint:
            self.err(f"hint: {hint}")
        if self.debug:
            import traceback

            self.err("".join(traceback.format_exception(error)))
