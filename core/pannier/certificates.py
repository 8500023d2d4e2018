"""Loads PEM files into a TLS context, and says which of them is wrong, and how.

Both sides of a TCP connection need it. What OpenSSL raises names no file, and it would ask for a
key's passphrase on the terminal.
"""

from __future__ import annotations

import ssl

from pannier.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_authorities", "load_identity"]

# With keys of two kinds OpenSSL knows no better than that there is no certificate for the key.
_STRANGERS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


def load_authorities(context: ssl.SSLContext, ca: Path | str) -> None:
    """Have a context trust what the certificates of a file have signed.

    :raises ConfigError: it cannot be read, or holds no certificate.
    """
    _look_at(ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{ca} holds no certificate", hint="a PEM file has one behind BEGIN CERTIFICATE"
        ) from error


def load_identity(context: ssl.SSLContext, certificate: Path | str, key: Path | str) -> None:
    """Have a context show a certificate.

    :raises ConfigError: a file cannot be read or used, or the key is another certificate's.
    """
    # By itself, since OpenSSL says the same of a certificate and a key that are no PEM.
    load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)
    _look_at(key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason in _STRANGERS:
            raise ConfigError(
                f"{key} is not the key of the certificate {certificate}",
                hint="the two are made together",
            ) from error
        raise ConfigError(
            f"{key} holds no private key", hint="a PEM file has one behind BEGIN PRIVATE KEY"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{key} has a passphrase", hint="write it without one: openssl pkey -in KEY -out KEY"
        ) from error


def _look_at(path: Path | str) -> None:
    try:
        with open(path, "rb"):  # noqa: PTH123 - the client's paths are plain words
            return
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", hint="TLS needs this file; is the path right?"
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a passphrase")
