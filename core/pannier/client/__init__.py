"""A small client of the Docker Engine API, written for start-up time.

It uses sockets and JSON and nothing else: what the command line imports is what its user waits
for, and the standard HTTP client alone costs twice the start of the interpreter.
"""

from __future__ import annotations

from pannier.client.address import Address, parse_address
from pannier.client.api import API_VERSION, Client
from pannier.client.errors import APIError, ConnectionFailed, ProtocolError
from pannier.client.resolving import resolve_address
from pannier.client.wire import Response, Stream

__all__ = [
    "API_VERSION",
    "APIError",
    "Address",
    "Client",
    "ConnectionFailed",
    "ProtocolError",
    "Response",
    "Stream",
    "parse_address",
    "resolve_address",
]
