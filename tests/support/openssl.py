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

    ``other-cert.pem`` is signed by an authority of its own, ``old-cert.pem`` has expired, and
    ``locked-key.pem`` is the client's key with a passphrase.
    """
    for name in ("ca", "other-ca"):
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={name}",
            "-keyout", str(folder / f"{name}-key.pem"), "-out", str(folder / f"{name}.pem"),
        )  # fmt: skip
    for name, key, authority, days, extension in (
        ("server", "server-key", "ca", "2", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ("cert", "key", "ca", "2", "extendedKeyUsage=clientAuth"),
        ("other-cert", "other-key", "other-ca", "2", "extendedKeyUsage=clientAuth"),
        ("old-cert", "old-key", "ca", "-1", "extendedKeyUsage=clientAuth"),
    ):
        request = str(folder / f"{name}.csr")
        extensions = folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", str(folder / f"{key}.pem"), "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-days", days, "-CAcreateserial",
            "-CA", str(folder / f"{authority}.pem"),
            "-CAkey", str(folder / f"{authority}-key.pem"),
            "-extfile", str(extensions), "-out", str(folder / f"{name}.pem"),
        )  # fmt: skip
    _openssl(
        "pkey", "-in", str(folder / "key.pem"), "-aes256", "-passout", "pass:x",
        "-out", str(folder / "locked-key.pem"),
    )  # fmt: skip
