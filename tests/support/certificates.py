"""Certificates for tests, made with the openssl program."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.registry import needs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Authority", "Pair", "sign_token"]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


def _openssl(*arguments: str, data: bytes | None = None) -> bytes:
    needs("openssl", "openssl")
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True)
    return done.stdout


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-keyout", str(self.pair.key), "-out", str(self.pair.certificate)),
        )

    def issue(self, name: str) -> Pair:
        """Return a certificate for *name*, also to serve at 127.0.0.1 or to identify a client."""
        made = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request, more = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        more.write_text(f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{name}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(made.key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", "2", "-extfile", str(more)),
            *("-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key), "-CAcreateserial"),
            *("-out", str(made.certificate)),
        )
        return made


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_token(signer: Pair, service: str, scopes: Sequence[str], seconds: int) -> str:
    """Return a token as a registry's token server gives it (RFC 7519, signed with RS256).

    :param scopes: each ``repository:NAME:ACTIONS``.
    """
    der = _openssl("x509", "-in", str(signer.certificate), "-outform", "DER")
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    claims = {
        "iss": "tests",
        "sub": "jo",
        "aud": service,
        "exp": now + seconds,
        "nbf": now - 5,
        "iat": now,
        "jti": str(now),
        "access": access,
    }
    text = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
    signature = _openssl("dgst", "-sha256", "-sign", str(signer.key), data=text.encode())
    return f"{text}.{_encode(signature)}"
