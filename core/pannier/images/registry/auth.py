"""Proving who we are to a registry: basic authentication and bearer tokens.

Sources: RFC 7235 (challenges), the distribution project's token specification.
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pannier.errors import Forbidden
from pannier.images.registry.refusals import AccessDenied, RegistryError
from pannier.images.registry.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ANONYMOUS", "Authorizer", "Challenge", "Credentials", "parse_challenges", "scope_of"]

_CHARACTER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]"
_WORD = rf"{_CHARACTER}+"
_PARAMETER = re.compile(rf"\s*({_WORD})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_WORD}))\s*,?")
# Looked for from a word's beginning alone: a header may be one word of 60,000 characters.
_SCHEME = re.compile(rf"(?<!{_CHARACTER})({_WORD})(?:\s+|$)")
_LIFETIME = 60.0
_LONGEST_LIFE = 366 * 86400
_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a user logs in with; all empty for an anonymous one.

    :param identity_token: an OAuth2 refresh token, in place of a password.
    :param registry_token: a bearer token to use as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers; the scheme in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Read a WWW-Authenticate header; what is malformed in it is passed over."""
    found: list[Challenge] = []
    position = 0
    while (scheme := _SCHEME.search(header, position)) is not None:
        position = scheme.end()
        parameters: dict[str, str] = {}
        while (match := _PARAMETER.match(header, position)) is not None:
            value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
            parameters[match[1].lower()] = value
            position = match.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


def scope_of(repository: str, *actions: str) -> str:
    """Return the scope for some actions (``pull``, ``push``) on a repository.

    Several scopes of one request stand one after another, with spaces between.
    """
    return f"repository:{repository}:{','.join(sorted(actions))}"


@dataclass(slots=True)
class Authorizer:
    """Answers one server's challenges, and remembers tokens until they expire.

    Not safe to use from several threads at once; that they wait for one another is what makes
    them fetch a token once.

    :param fetch: makes a request to the token server: ``(method, url, headers, body)`` to
        ``(status, body)``; credentials among *headers* follow no redirect elsewhere.
    :param secure: whether the registry itself is reached over TLS; a token server that is not must
        be on this machine, or credentials are not sent to it.
    """

    credentials: Credentials
    fetch: Callable[[str, str, dict[str, str], bytes | None], tuple[int, bytes]]
    secure: bool = True
    _challenge: Challenge | None = None
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    def header(self, scope: str) -> str | None:
        """Return the Authorization header for a request, as far as the server is known."""
        if self.credentials.registry_token:
            return f"Bearer {self.credentials.registry_token}"
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            return self.credentials.basic if self.credentials.username else None
        token, expires = self._tokens.get(scope, ("", 0.0))
        if not token or expires < time.monotonic():
            token = self._renew(scope)
        return f"Bearer {token}"

    def learn(self, header: str, scope: str) -> bool:
        """Take note of a challenge (after a 401); return whether trying again makes sense.

        :param scope: of the request that was refused; its token counts as expired.
        """
        if self.credentials.registry_token:
            return False
        offered = {challenge.scheme: challenge for challenge in parse_challenges(header)}
        chosen = offered.get("bearer") or offered.get("basic")
        if chosen is None:
            return False
        if chosen.scheme == "basic" and (
            not self.credentials.username or self._challenge == chosen
        ):
            return False
        self._challenge = chosen
        self._tokens.pop(scope, None)
        return True

    def _renew(self, scope: str) -> str:
        assert self._challenge is not None
        realm = self._challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise RegistryError(f"the registry names no usable token server (realm {realm!r})")
        private = bool(self.credentials.username or self.credentials.identity_token)
        if private and parts.scheme == "http" and self.secure and not is_loopback(parts.netloc):
            raise Forbidden(
                f"the token server {realm} speaks plain HTTP: the credentials were not sent",
                hint="the registry's operator must offer its token server over https",
            )
        status, body = self._ask(realm, scope)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            words = (
                "unauthorized: incorrect username or password"
                if private
                else "denied: requested access to the resource is denied"
            )
            raise AccessDenied(words, words=words, hint="log in first: pannier login REGISTRY")
        answer = _document(body) if status == HTTPStatus.OK else None
        token = str((answer or {}).get("token") or (answer or {}).get("access_token") or "")
        if answer is None or not token:
            raise RegistryError(
                f"the token server {parts.netloc} answered {status} without a token",
                http_status=status,
            )
        seconds = _seconds(answer.get("expires_in"))
        # Renewed a little earlier, since a clock or a slow request may eat the rest.
        expires = time.monotonic() + seconds - min(_MARGIN, seconds / 5)
        self._tokens[scope] = (token, expires)
        return token

    def _ask(self, realm: str, scope: str) -> tuple[int, bytes]:
        assert self._challenge is not None
        scopes = scope or self._challenge.parameters.get("scope", "")
        fields = [("service", self._challenge.parameters.get("service", ""))]
        if self.credentials.identity_token:
            fields += [
                ("scope", scopes),
                ("grant_type", "refresh_token"),
                ("refresh_token", self.credentials.identity_token),
                ("client_id", "pannier"),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self.fetch("POST", realm, headers, urlencode(_filled(fields)).encode())
        fields += [("scope", one) for one in scopes.split()]
        headers = {}
        if self.credentials.username:
            headers["Authorization"] = self.credentials.basic
            fields.append(("account", self.credentials.username))
        separator = "&" if "?" in realm else "?"
        return self.fetch("GET", f"{realm}{separator}{urlencode(_filled(fields))}", headers, None)


def _seconds(lifetime: object) -> float:
    """Return how long a token lives; what is no time, or one without sense, is the usual one."""
    # Compared as it is: an integer may be too large for a float.
    if isinstance(lifetime, int | float) and 0 <= lifetime <= _LONGEST_LIFE:
        return float(lifetime)
    return _LIFETIME


def _filled(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(key, value) for key, value in fields if value]


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
