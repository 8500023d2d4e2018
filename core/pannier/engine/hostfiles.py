"""/etc/hostname, /etc/hosts and /etc/resolv.conf of each container.

They are files of the engine's own, bind-mounted into the container, which may change its copies.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pannier.drivers.base import IdMap
    from pannier.drivers.network import Endpoint
    from pannier.engine.joins import Joins
    from pannier.engine.model import Container
    from pannier.engine.settings import EngineSettings

__all__ = ["HostFiles", "Link", "hosts", "resolv_conf", "resolvers"]

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
EMBEDDED = "127.0.0.11"
"""Where the embedded DNS answers inside."""

_FALLBACK = ("8.8.8.8", "8.8.4.4")
_RESOLVED = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved lists the real servers, when /etc/resolv.conf names only its stub."""

_PLACES = {"resolv.conf": "/etc/resolv.conf", "hostname": "/etc/hostname", "hosts": "/etc/hosts"}
_MAX_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """Another container to be found by name: its address, and its names.

    :param environment: the variables that tell of it.
    """

    address: str
    names: tuple[str, ...]
    environment: tuple[str, ...] = ()


class HostFiles:
    """Writes the files of one engine's containers.

    :param folder: where each container has a folder of its own.
    :param named: whether a container is served by the embedded DNS.
    :param host: says by which address a container reaches the host that has no gateway of its own.
    """

    def __init__(
        self,
        settings: EngineSettings,
        folder: Path,
        named: Callable[[Container], bool],
        host: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._named = named
        self._host = host

    def hostname(self, container: Container, joins: Joins) -> str:
        """Return what the container is called inside."""
        if joins.donor is not None:
            # Its UTS namespace is its own, but its name belongs to the address it shares.
            return joins.donor.config.hostname or joins.donor.id[:12]
        if container.config.hostname:
            return container.config.hostname
        if container.host.uts_mode == "host" or joins.host_network:
            return self._settings.hostname
        return container.id[:12]

    def sources(self, container: Container, joins: Joins) -> Mapping[str, str]:
        """Return the files by their place in the container; those of the one it joins, if any."""
        owner = joins.donor or container
        folder = f"{self._folder}/{owner.id}"
        return {place: f"{folder}/{name}" for name, place in _PLACES.items()}

    def write(self, container: Container, joins: Joins, links: Iterable[Link]) -> None:
        """Write the files as they are to be before the network is there. Idempotent."""
        if joins.donor is not None:
            return
        name = self.hostname(container, joins)
        contents = {
            "hostname": f"{name}\n",
            "hosts": self._hosts(container, joins, {}, links),
            "resolv.conf": self._resolv_conf(container, host_network=joins.host_network),
        }
        folder = f"{self._folder}/{container.id}"
        for file, content in contents.items():
            _write(f"{folder}/{file}", content, container.idmap)

    def attached(
        self,
        container: Container,
        joins: Joins,
        endpoints: Mapping[str, Endpoint],
        links: Iterable[Link],
    ) -> None:
        """Complete /etc/hosts with the addresses, now that they are known."""
        if joins.donor is not None or joins.host_network:
            return
        content = self._hosts(container, joins, endpoints, links)
        _overwrite(f"{self._folder}/{container.id}/hosts", content)

    def connected(self, before: Container, after: Container) -> None:
        """Have a running container use the embedded DNS, now that it is on a network that has it.

        Not where its resolv.conf is not any more what we wrote: then it is the container's own.
        """
        if self._named(before) or not self._named(after):
            return
        path = f"{self._folder}/{after.id}/resolv.conf"
        if _read(path) == self._resolv_conf(before, host_network=False):
            _overwrite(path, self._resolv_conf(after, host_network=False))

    def asks_embedded(self, container: Container) -> bool:
        """Whether a container that was started looks names up at the embedded DNS.

        So it does from its first network of a user's on, also when it has left that one.
        """
        return EMBEDDED in resolvers(f"{self._folder}/{container.id}/resolv.conf")

    def _hosts(
        self,
        container: Container,
        joins: Joins,
        endpoints: Mapping[str, Endpoint],
        links: Iterable[Link],
    ) -> str:
        base = _HOSTS
        if joins.host_network:
            base = _read("/etc/hosts") or _HOSTS
        return hosts(
            base,
            container.host.extra_hosts,
            links,
            () if joins.host_network else endpoints.values(),
            _names(container, self.hostname(container, joins)),
            host=self._host(),
        )

    def _resolv_conf(self, container: Container, *, host_network: bool) -> str:
        text = _read(self._settings.resolv_conf)
        if not host_network and self._named(container):
            host = container.host
            options = host.dns_options or _words(text, "options")
            if not any(option.startswith("ndots:") for option in options):
                # Names without a dot are asked for as they are, before any search domain.
                options = (*options, "ndots:0")
            return resolv_conf(text, (EMBEDDED,), host.dns_search, options)
        if not host_network and not _servers(text, loopback=False):
            text = _read(_RESOLVED) or text
        host = container.host
        return resolv_conf(text, host.dns, host.dns_search, host.dns_options, loopback=host_network)


def _names(container: Container, hostname: str) -> str:
    domain = container.config.domainname
    return f"{hostname}.{domain} {hostname}" if domain else hostname


def hosts(
    base: str,
    extra: Iterable[str],
    links: Iterable[Link],
    endpoints: Iterable[Endpoint],
    names: str,
    *,
    host: str = "",
) -> str:
    """Return the content of /etc/hosts.

    :param extra: ``name:address``, as of ``--add-host``; the address may be ``host-gateway``.
    :param names: what the container's own addresses are called.
    :param host: ``host-gateway`` where none of the endpoints has a gateway.
    """
    endpoints = tuple(endpoints)
    gateway = next((item.gateway for item in endpoints if item.gateway), host)
    lines = [base if base.endswith("\n") else f"{base}\n"]
    for entry in extra:
        separator = "=" if "=" in entry else ":"
        name, _, address = entry.partition(separator)
        address = address.strip("[]")
        if address == "host-gateway":
            address = gateway
        if address:
            lines.append(f"{address}\t{name}\n")
    lines += [f"{link.address}\t{' '.join(link.names)}\n" for link in links if link.address]
    lines += [
        f"{address}\t{names}\n"
        for endpoint in endpoints
        for address in (endpoint.address, endpoint.address6)
        if address
    ]
    return "".join(lines)


@functools.lru_cache(maxsize=64)
def resolv_conf(
    text: str,
    servers: tuple[str, ...],
    search: tuple[str, ...],
    options: tuple[str, ...],
    *,
    loopback: bool = False,
) -> str:
    """Return the content of /etc/resolv.conf: the host's *text*, with what was asked in its place.

    :param loopback: whether servers on the host's loopback can be reached.
    """
    servers = servers or _servers(text, loopback=loopback) or _FALLBACK
    search = search or _words(text, "search") or _words(text, "domain")
    options = options or _words(text, "options")
    lines = [f"nameserver {server}" for server in servers]
    if search and search != (".",):
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


@functools.lru_cache(maxsize=16)
def _servers(text: str, *, loopback: bool) -> tuple[str, ...]:
    return tuple(
        server for server in _words(text, "nameserver") if loopback or not _is_loopback(server)
    )


def resolvers(path: str) -> tuple[str, ...]:
    """Return the servers of a resolv.conf, also those on the host's loopback."""
    return tuple(_words(_read(path), "nameserver"))


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True  # what is no address serves nobody


def _words(text: str, key: str) -> tuple[str, ...]:
    """Return the values of *key*: of all lines for servers, of the last for all else."""
    found: list[str] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == key:
            found = found + fields[1:2] if key == "nameserver" else fields[1:]
    return tuple(found)


def _read(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _MAX_SIZE).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _overwrite(path: str, content: str) -> None:
    """Write in place, since a rename would leave the container's mount with the old file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        data = content.encode()
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def _write(path: str, content: str, idmap: IdMap | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        # At a first start nobody has the file yet, so nobody can see it half written.
        descriptor = os.open(path, flags, 0o644)
        staged = None
    except FileExistsError:
        staged = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)  # noqa: PTH108 - a Path object would double a hot line's time
        descriptor = os.open(staged, flags, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        if idmap is not None:
            os.fchown(descriptor, idmap.host_uid(0), idmap.host_gid(0))
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)
    if staged is not None:
        os.rename(staged, path)  # noqa: PTH104 - as above
