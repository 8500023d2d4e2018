"""Docker's contexts: named addresses in the user's settings, shared with docker's own clients.

Whoever changes them is :mod:`pannier.client.contextfiles`.

A context is ``contexts/meta/HASH/meta.json`` below ``~/.docker``, HASH being the SHA-256 of its
name; its certificates lie in ``contexts/tls/HASH/docker/``. ``config.json`` says which is current.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from pannier.client.address import parse_address, tls_from_folder
from pannier.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.client.address import Address

__all__ = ["DEFAULT", "Contexts"]

_ENDPOINT = "docker"
DEFAULT = "default"
"""What stands for no context: the environment's address, or Pannier's own."""


class Contexts:
    """The contexts of one user.

    :param folder: ``~/.docker``, or what DOCKER_CONFIG names.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    @property
    def folder(self) -> Path:
        """The folder of the user's settings."""
        return self._folder

    def names(self) -> list[str]:
        """Return the names of all contexts but the default, sorted."""
        found = []
        with contextlib.suppress(OSError):
            for path in (self._folder / "contexts/meta").iterdir():
                name = _read(path / "meta.json").get("Name")
                if isinstance(name, str) and _hash(name) == path.name:
                    found.append(name)
        return sorted(found)

    def document(self, name: str) -> dict[str, Any]:
        """Return a context as its file has it.

        :raises NotFound: there is none of that name.
        """
        found = _read(self.meta_folder(name) / "meta.json")
        if found.get("Name") != name:
            raise NotFound(
                f'context "{name}" does not exist', hint="`pannier context ls` lists the contexts"
            )
        return found

    def endpoint(self, name: str) -> dict[str, Any]:
        """Return a context's endpoint: ``Host`` and ``SkipTLSVerify``.

        :raises NotFound: there is none of that name, or it has no endpoint.
        """
        endpoints = self.document(name).get("Endpoints")
        found = endpoints.get("docker") if isinstance(endpoints, dict) else None
        if not isinstance(found, dict) or not isinstance(found.get("Host"), str):
            raise NotFound(f'context "{name}" has no docker endpoint')
        return found

    def address(self, name: str) -> Address:
        """Return the address that a context leads to.

        :raises NotFound: there is none of that name.
        """
        endpoint = self.endpoint(name)
        folder = self.tls_folder(name) / _ENDPOINT
        tls = None
        if folder.is_dir() or endpoint.get("SkipTLSVerify"):
            tls = tls_from_folder(str(folder), verify=not endpoint.get("SkipTLSVerify"))
        return parse_address(endpoint["Host"], tls)

    def current(self) -> str:
        """Return the name of the current context."""
        name = _read(self._folder / "config.json").get("currentContext")
        return name if isinstance(name, str) and name else DEFAULT

    def meta_folder(self, name: str) -> Path:
        """Return the folder of a context's ``meta.json``, be there one or not."""
        return self._folder / "contexts/meta" / _hash(name)

    def tls_folder(self, name: str) -> Path:
        """Return the folder of a context's certificates, whether or not it has any."""
        return self._folder / "contexts/tls" / _hash(name)

    def tls_names(self, name: str) -> list[str]:
        """Return the names of a context's certificates and keys, sorted."""
        with contextlib.suppress(OSError):
            return sorted(path.name for path in (self.tls_folder(name) / _ENDPOINT).iterdir())
        return []


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
