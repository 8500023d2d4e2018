"""Which proxy leads to a server, by the environment, as Docker's daemon reads it.

``HTTP_PROXY`` and ``HTTPS_PROXY`` (or in lower case) are URLs, or ``host:port``. ``NO_PROXY`` is a
list, with commas, of names (with all below them; with a leading dot only what is below), addresses,
networks (``10.0.0.0/8``), each perhaps with a port, or ``*`` for everything. Loopback needs none.
The rules are those of Go's ``golang.org/x/net/http/httpproxy``, which Docker uses.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from pannier.images.registry.settings import is_loopback

__all__ = ["proxy_for"]

_PORTS = {"http": 80, "https": 443}


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the URL of the proxy on the way to a server; None where there is none.

    :param scheme: that the server is spoken to with.
    :param host: ``HOST[:PORT]``.
    """
    proxy = _variable(f"{scheme}_proxy")
    if not proxy or is_loopback(host) or _is_excepted(scheme, host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(name: str) -> str:
    # A web server's CGI programs get a client's "Proxy:" header as HTTP_PROXY (CVE-2016-5385).
    if name == "http_proxy" and "REQUEST_METHOD" in os.environ:
        return ""
    return (os.environ.get(name.upper()) or os.environ.get(name) or "").strip()


def _is_excepted(scheme: str, host: str) -> bool:
    parts = urlsplit(f"//{host}")
    name = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS[scheme]
    return any(_fits(item, name, port) for item in _variable("no_proxy").lower().split(","))


def _fits(item: str, name: str, port: int) -> bool:
    item = item.strip()
    if item == "*":
        return True
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(item, strict=False)
    except ValueError:  # one of them is a name, or has a port
        pass
    head, colon, tail = item.rpartition(":")
    if colon and tail.isdecimal():
        if int(tail) != port:
            return False
        item = head.strip("[]")
    item = item.removeprefix("*")
    if not item:
        return False
    if item.startswith("."):
        return name.endswith(item)
    return name == item or name.endswith(f".{item}")
