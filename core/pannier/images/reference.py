"""Image references: the names that users give to images.

The grammar is the OCI distribution specification's and Docker's: an optional registry, a path, an
optional tag and an optional digest. A name without a registry means ``docker.io``, and one without
a folder there means ``docker.io/library/``; the *familiar* form leaves both out again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from pannier.errors import InvalidRequest
from pannier.images.digest import check_digest, is_digest

__all__ = ["DEFAULT_DOMAIN", "DEFAULT_TAG", "Reference", "parse_any", "parse_reference"]

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_PATH = 255
_MAX_TEXT = 4096

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_DOMAIN_RE = re.compile(_DOMAIN)
_REST_RE = re.compile(
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")

_HINT = "a name looks like alpine, alpine:3.20 or registry.example.com:5000/team/app:1.0"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A normalised reference.

    :param domain: the registry's host, with its port where one was given.
    :param path: the repository in that registry, ``library/busybox``.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """The repository with its registry: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as Docker prints it: ``busybox``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        if "/" not in rest:
            return rest
        # A path such as "a.b/c" would be read as the registry "a.b".
        return self.name if _is_host(self.path.partition("/")[0]) else self.path

    @property
    def familiar(self) -> str:
        """The reference as Docker prints it: ``busybox:latest``."""
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return tag if self.digest is None else f"{tag}@{self.digest}"

    @property
    def is_name_only(self) -> bool:
        """Whether there is neither a tag nor a digest."""
        return self.tag is None and self.digest is None

    def with_default_tag(self) -> Reference:
        """Return the reference, with the tag ``latest`` where it has neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self


def _is_host(first: str) -> bool:
    """Whether a name's first part is a registry."""
    return "." in first or ":" in first or first == "localhost" or first.lower() != first


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and _is_host(first):
        domain, path = first, rest
    else:
        domain, path = DEFAULT_DOMAIN, text
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _invalid(reason: str = "") -> InvalidRequest:
    message = "invalid reference format"
    return InvalidRequest(f"{message}: {reason}" if reason else message, hint=_HINT)


@lru_cache(maxsize=4096)
def parse_reference(text: str) -> Reference:
    """Parse and normalise a reference. An absent tag stays absent.

    :raises InvalidRequest: it does not follow the grammar.
    """
    if len(text) > _MAX_TEXT:
        raise _invalid()
    if _IDENTIFIER.fullmatch(text):
        raise InvalidRequest(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings",
            hint=_HINT,
        )
    domain, rest = _split_domain(text)
    path = rest.partition("@")[0].partition(":")[0]
    if path.lower() != path:
        raise _invalid(f"repository name ({path}) must be lowercase")
    match = _REST_RE.fullmatch(rest)
    if match is None or _DOMAIN_RE.fullmatch(domain) is None:
        raise _invalid()
    if len(path) > _MAX_PATH:
        raise InvalidRequest(
            f"repository name must not be more than {_MAX_PATH} characters", hint=_HINT
        )
    digest = match["digest"]
    if digest is not None:
        check_digest(digest)
    return Reference(domain, path, match["tag"], digest)


def parse_any(text: str) -> Reference | str:
    """Parse what may be a reference or a full image id; an id is returned as its digest.

    :raises InvalidRequest: it is neither.
    """
    if _IDENTIFIER.fullmatch(text):
        return f"sha256:{text}"
    if is_digest(text):
        return text
    return parse_reference(text)
