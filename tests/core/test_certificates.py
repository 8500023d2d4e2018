"""PEM files of TLS: which of them is wrong is said by its name."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from pannier.certificates import load_authorities, load_identity
from pannier.errors import ConfigError
from support.openssl import make_certificates

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates and keys."""
    made = tmp_path_factory.mktemp("certificates")
    make_certificates(made)
    return made


@pytest.fixture
def context() -> ssl.SSLContext:
    """Return a context that has nothing yet."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_what_belongs_together_is_loaded(folder: Path, context: ssl.SSLContext) -> None:
    """Then the context knows the authority."""
    load_identity(context, folder / "server.pem", folder / "server-key.pem")
    load_authorities(context, folder / "ca.pem")
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("none", "key", "none.pem: No such file or directory"),
        ("cert", "none", "none.pem: No such file or directory"),
        ("key", "key", "key.pem holds no certificate"),
        ("cert", "ca", "ca.pem holds no private key"),
        ("cert", "other-key", "other-key.pem is not the key of the certificate .*/cert.pem"),
        ("cert", "locked-key", "locked-key.pem has a passphrase"),
    ],
)
def test_a_wrong_file_is_named(
    folder: Path, context: ssl.SSLContext, certificate: str, key: str, said: str
) -> None:
    """Nobody is asked for a passphrase."""
    with pytest.raises(ConfigError, match=said) as caught:
        load_identity(context, folder / f"{certificate}.pem", folder / f"{key}.pem")
    assert caught.value.hint


def test_a_folder_is_no_authority(folder: Path, context: ssl.SSLContext) -> None:
    """Nor is a file without a certificate."""
    with pytest.raises(ConfigError, match="Is a directory"):
        load_authorities(context, folder)
    with pytest.raises(ConfigError, match="holds no certificate"):
        load_authorities(context, folder / "ca-key.pem")
