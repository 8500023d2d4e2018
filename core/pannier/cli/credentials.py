"""What the user logs in to registries with: Docker's ``config.json`` and its credential helpers.

The file is ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``, shared with other engines'
clients. A helper is a program ``docker-credential-NAME`` that gets the server on its standard
input, with the verb ``get``, ``store`` or ``erase`` (docker-credential-helpers' protocol).
"""

from __future__ import annotations

import json
import os

from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "DOCKER_HUB",
    "CredentialStore",
    "auth_header",
    "config_header",
    "full_name",
    "registry_of",
    "server_host",
    "server_key",
]

DOCKER_HUB = "https://index.docker.io/v1/"
"""The name that the default registry goes by in the file, and in helpers."""

_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105 - how a helper says that its secret is an identity token
_HELPER_SECONDS = 60


def registry_of(image: str) -> str:
    """Return the registry of an image's name, as ``config.json`` calls it."""
    first, slash, _ = image.partition("/")
    own = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    return server_key(first) if own else DOCKER_HUB


def full_name(image: str) -> str:
    """Return an image's name with its registry, as Docker prints it after a pull."""
    if registry_of(image) != DOCKER_HUB:
        return image
    first, slash, rest = image.partition("/")
    if slash and first in _HUB_HOSTS:
        image = rest
    return f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"


def server_host(server: str) -> str:
    """Return the host and port of a server, however it was written."""
    rest = server.partition("://")[2] or server
    return rest.partition("/")[0]


def server_key(server: str) -> str:
    """Return what a server is called in the file."""
    host = server_host(server)
    return DOCKER_HUB if host in _HUB_HOSTS else host


def auth_header(image: str) -> dict[str, str]:
    """Return the header with which the daemon pulls or pushes an image in the user's name."""
    import base64

    found = CredentialStore().get(registry_of(image))
    text = json.dumps(found, separators=(",", ":"))
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def config_header() -> dict[str, str]:
    """Return the header with which a build pulls images from any registry in the user's name."""
    store = CredentialStore()
    found = {server: store.get(server) for server in store.servers()}
    found = {
        server: fields
        for server, fields in found.items()
        if any(value for key, value in fields.items() if key != "serveraddress")
    }
    if not found:
        return {}
    import base64

    text = json.dumps(found, separators=(",", ":"))
    return {"X-Registry-Config": base64.urlsafe_b64encode(text.encode()).decode()}


class CredentialStore:
    """The user's credentials.

    :raises PannierError: the file cannot be read.
    """

    def __init__(self) -> None:
        folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111 - pathlib costs 5 ms of every start
        self.path = os.path.realpath(os.path.join(folder, "config.json"))  # noqa: PTH118 - as above
        self._document = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, encoding="utf-8") as file:  # noqa: PTH123 - as above
                document = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise PannierError(
                f"the credentials in {self.path} cannot be read: {error}",
                hint="repair or remove the file, or name another folder in DOCKER_CONFIG",
            ) from error
        return document if isinstance(document, dict) else {}

    def helper(self, server: str) -> str:
        """Return the name of the helper for a server; empty where the file itself is used."""
        helpers = self._document.get("credHelpers")
        if isinstance(helpers, dict):
            for key, name in helpers.items():
                if server_key(key) == server and isinstance(name, str):
                    return name
        store = self._document.get("credsStore")
        return store if isinstance(store, str) else ""

    def servers(self) -> list[str]:
        """Return every server that the file has credentials or a helper for."""
        found: dict[str, None] = {}
        for name in ("auths", "credHelpers"):
            entries = self._document.get(name)
            if isinstance(entries, dict):
                found.update(dict.fromkeys(server_key(key) for key in entries))
        return list(found)

    def get(self, server: str) -> dict[str, str]:
        """Return what to log in with, as the API wants it; empty for nothing.

        :param server: as :func:`server_key` or :func:`registry_of` return it.
        """
        helper = self.helper(server)
        if helper:
            return self._from_helper(helper, server)
        auths = self._document.get("auths")
        for key, entry in (auths if isinstance(auths, dict) else {}).items():
            if server_key(key) == server and isinstance(entry, dict):
                return _from_entry(entry, server)
        return {}

    def _from_helper(self, helper: str, server: str) -> dict[str, str]:
        status, output = _ask(helper, "get", server)
        if status:
            if "credentials not found" in output:
                return {}
            raise PannierError(f"the credential helper {helper} failed: {output.strip()[:500]}")
        try:
            answer = json.loads(output)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise PannierError(
                f"the credential helper {helper} gave no credentials for {server}"
            ) from None
        if username == _TOKEN_USER:
            return {"identitytoken": secret, "serveraddress": server}
        return {"username": username, "password": secret, "serveraddress": server}

    def store(self, server: str, username: str, password: str, token: str = "") -> bool:
        """Keep credentials that a registry has accepted; return whether they lie in the file.

        :param token: an identity token that the registry gave in place of the password.
        """
        helper = self.helper(server)
        if helper:
            secret = {
                "ServerURL": server,
                "Username": _TOKEN_USER if token else username,
                "Secret": token or password,
            }
            status, output = _ask(helper, "store", json.dumps(secret))
            if status:
                raise PannierError(f"the credential helper {helper} failed: {output.strip()[:500]}")
            return False
        import base64

        pair = f"{username}:{'' if token else password}"
        entry = {"auth": base64.b64encode(pair.encode()).decode()}
        if token:
            entry["identitytoken"] = token
        self._drop(server)
        self._document.setdefault("auths", {})[server] = entry
        self._write()
        return True

    def erase(self, server: str) -> bool:
        """Forget credentials; return whether there were any."""
        helper = self.helper(server)
        if helper:
            known = bool(self._from_helper(helper, server))
            _ask(helper, "erase", server)
            return known
        known = self._drop(server)
        if known:
            self._write()
        return known

    def _drop(self, server: str) -> bool:
        auths = self._document.get("auths")
        if not isinstance(auths, dict):
            self._document["auths"] = {}
            return False
        keys = [key for key in auths if server_key(key) == server]
        for key in keys:
            del auths[key]
        return bool(keys)

    def _write(self) -> None:
        """Replace the file as a whole; nobody but the user may read it."""
        folder = os.path.dirname(self.path)  # noqa: PTH120 - pathlib costs 5 ms of every start
        staged = f"{self.path}.{os.getpid()}"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - as above
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with open(os.open(staged, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
                json.dump(self._document, file, indent="\t")
                file.write("\n")
            os.replace(staged, self.path)  # noqa: PTH105 - as above
        except OSError as error:
            raise PannierError(f"the credentials cannot be written: {error}") from error


def _from_entry(entry: dict[str, Any], server: str) -> dict[str, str]:
    import base64

    found = {"serveraddress": server}
    try:
        pair = base64.b64decode(str(entry.get("auth") or "")).decode()
    except ValueError:
        pair = ""
    username, _, password = pair.partition(":")
    found["username"] = username or str(entry.get("username") or "")
    found["password"] = password.rstrip("\0") or str(entry.get("password") or "")
    for key in ("identitytoken", "registrytoken"):
        if entry.get(key):
            found[key] = str(entry[key])
    return {key: value for key, value in found.items() if value}


def _ask(helper: str, verb: str, text: str) -> tuple[int, str]:
    import subprocess

    if "/" in helper or not helper:
        raise PannierError(f"{helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text,
            stdout=subprocess.PIPE,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise PannierError(
            f"the credential helper {program} is not installed",
            hint="install it, or take credsStore and credHelpers out of the configuration file",
        ) from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # A ValueError for a name that no file can have.
        raise PannierError(f"the credential helper {program!r} failed: {error}") from error
    return done.returncode, done.stdout
