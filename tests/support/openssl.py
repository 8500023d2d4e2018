"""Certificates for tests, made with the openssl program."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_certificates"]


def _openssl(*arguments: str, input: str = "") -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True, input=input)


def make_certificates(folder: Path) -> None:
    """Write ``ca.pem``, ``server.pem``, ``cert.pem`` and their keys.

    ``other-cert.pem`` is signed by an authority of its own.
    """
    for name in ("ca", "other-ca"):
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={name}",
            "-keyout", str(folder / f"{name}-key.pem"), "-out", str(folder / f"{name}.pem"),
        )  # fmt: skip
    for name, key, authority, extension in (
        ("server", "server-key", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ("cert", "key", "ca", "extendedKeyUsage=clientAuth"),
        ("other-cert", "other-key", "other-ca", "extendedKeyUsage=clientAuth"),
    ):
        request = str(folder / f"{name}.csr")
        extensions = folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", str(folder / f"{key}.pem"), "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-days", "2", "-CAcreateserial",
            "-CA", str(folder / f"{authority}.pem"),
            "-CAkey", str(folder / f"{authority}-key.pem"),
            "-extfile", str(extensions), "-out", str(folder / f"{name}.pem"),
        )  # fmt: skip
