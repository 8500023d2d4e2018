"""How each registry is reached: mirrors, TLS, plain HTTP.

The layout of certificate folders is Docker's: ``certs.d/HOST[:PORT]/`` holds ``*.crt`` (certificate
authorities) and pairs of ``*.cert`` and ``*.key`` (client certificates).
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pannier.config import RegistriesTable, RegistryTable
from pannier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Endpoint", "RegistryOptions", "is_loopback"]

_DOCKER_DOMAIN = "docker.io"
_DOCKER_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to ask for a registry's content.

    :param host: with its port; what certificates and credentials belong to.
    :param base: the URL's path before ``/v2/``, without a slash at its end.
    :param schemes: to be tried in order.
    """

    host: str
    schemes: tuple[str, ...]
    base: str = ""
    mirror: bool = False
    settings: RegistryTable = field(default_factory=RegistryTable)


@dataclass(frozen=True)
class RegistryOptions:
    """The settings of all registries, by ``HOST[:PORT]``, and what they have in common."""

    hosts: Mapping[str, RegistryTable] = field(default_factory=dict)
    common: RegistriesTable = field(default_factory=RegistriesTable)

    def endpoints(self, domain: str, *, push: bool = False) -> list[Endpoint]:
        """Return where to ask for the content of *domain*: its mirrors, then itself."""
        settings = self.hosts.get(domain, RegistryTable())
        found = [] if push else [self._mirror(url) for url in settings.mirrors]
        host = _DOCKER_HOST if domain == _DOCKER_DOMAIN else domain
        return [*found, Endpoint(host, _schemes(host, settings), settings=settings)]

    def endpoint(self, host: str) -> Endpoint:
        """Return one server, by its host and port, as it is configured."""
        settings = self.hosts.get(host, RegistryTable())
        return Endpoint(host, _schemes(host, settings), settings=settings)

    def _mirror(self, url: str) -> Endpoint:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query:
            raise ConfigError(
                f"the registry mirror {url!r} is no URL",
                hint='write mirrors = ["https://mirror.example.com"]',
            )
        settings = self.hosts.get(parts.netloc, RegistryTable())
        if parts.scheme == "http" and not (settings.insecure or is_loopback(parts.netloc)):
            raise ConfigError(
                f"the registry mirror {url} speaks plain HTTP",
                hint=f'allow it with insecure = true in [registry."{parts.netloc}"]',
            )
        return Endpoint(parts.netloc, (parts.scheme,), parts.path.rstrip("/"), True, settings)

    def tls_context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """Return the TLS settings for a server.

        :raises ConfigError: a certificate cannot be read.
        """
        settings = endpoint.settings
        folder = next(
            (
                top / endpoint.host
                for top in self.common.certificates
                if _is_dir(top / endpoint.host)
            ),
            None,
        )
        authorities = [settings.ca_file] if settings.ca_file else []
        if folder is not None and not authorities:
            authorities = sorted(folder.glob("*.crt"))
        pairs = [(settings.client_certificate, settings.client_key)]
        if folder is not None and settings.client_certificate is None:
            pairs = [(path, path.with_suffix(".key")) for path in sorted(folder.glob("*.cert"))]
        try:
            context = ssl.create_default_context()
            for path in authorities:
                context.load_verify_locations(path)
            for certificate, key in pairs:
                if certificate is not None:
                    context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificates for {endpoint.host} cannot be used: {error}",
                hint=f"see {folder or 'ca_file, client_certificate and client_key'}",
            ) from error
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _schemes(host: str, settings: RegistryTable) -> tuple[str, ...]:
    return ("https", "http") if settings.insecure or is_loopback(host) else ("https",)


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not readable for us
        return False


def is_loopback(host: str) -> bool:
    """Whether ``HOST[:PORT]`` is this machine, so that plain HTTP crosses no network."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
