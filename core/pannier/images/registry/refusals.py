"""What a registry's refusals mean, in our errors and its own words."""

from __future__ import annotations

import contextlib
import email.utils
import json
import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pannier.errors import Forbidden, NotFound, PannierError

if TYPE_CHECKING:
    import urllib3

__all__ = ["AccessDenied", "RegistryError", "cause_of", "refusal", "retry_after", "unreachable"]

LONGEST_PAUSE = 30.0
_SMALL = 1 << 16
_DENIALS = {
    HTTPStatus.UNAUTHORIZED: "unauthorized: authentication required",
    HTTPStatus.FORBIDDEN: "denied: requested access to the resource is denied",
}


class RegistryError(PannierError):
    """A registry answered with an error, or could not be reached.

    :param http_status: what it answered; 0 where it did not.
    """

    def __init__(self, message: str, *, http_status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.http_status = http_status


class AccessDenied(Forbidden):
    """The registry does not let us, or does not say whether there is anything to be let at.

    :param words: the registry's own.
    """

    def __init__(self, message: str, *, words: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.words = words or "access to the resource is denied"


def retry_after(value: str | None, default: float) -> float:
    """Return the seconds that a Retry-After header (RFC 9110, 10.2.3) asks to wait, bounded."""
    if value is None:
        return default
    if value.strip().isdecimal():
        return min(float(value), LONGEST_PAUSE)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = email.utils.parsedate_to_datetime(value).timestamp()
        return min(max(moment - time.time(), 0.0), LONGEST_PAUSE)
    return default


def cause_of(error: BaseException) -> BaseException:
    """Return the innermost error: urllib3 wraps the interesting one."""
    while True:
        candidates = (getattr(error, "reason", None), error.__cause__, *error.args[:1])
        inner = next((one for one in candidates if isinstance(one, BaseException)), None)
        if inner is None:
            return error
        error = inner


def unreachable(host: str, error: BaseException, what: str = "") -> RegistryError:
    """Return the error for a server that gives no answer.

    :param what: what was asked of it, where it is no registry.
    """
    cause = cause_of(error)
    hint = "is the name right, and the network up? see also HTTPS_PROXY"
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = f"put the authority's certificate into /etc/pannier/certs.d/{host}/ca.crt"
    what = what or f"the registry {host} cannot be reached"
    return RegistryError(f"{what}: {cause}", hint=hint)


def refusal(host: str, method: str, path: str, response: urllib3.BaseHTTPResponse) -> PannierError:
    """Return the error for an answer that was not expected, with the registry's own words."""
    text = _messages(response)
    if response.status == HTTPStatus.NOT_FOUND:
        return NotFound(text or f"{host} has no {path}")
    if response.status in _DENIALS:
        text = text or _DENIALS[HTTPStatus(response.status)]  # an answer to HEAD has no words
        return AccessDenied(
            f"{host} denied access: {text}",
            words=text,
            hint=f"log in first: pannier login {host}",
        )
    return RegistryError(
        f"{host} answered {response.status} to {method} {path}{f': {text}' if text else ''}",
        http_status=response.status,
    )


def _messages(response: urllib3.BaseHTTPResponse) -> str:
    """Return the texts of a distribution-specification error document, as Docker writes them."""
    # Whatever is wrong with the document, the status alone says enough.
    with contextlib.suppress(Exception):
        document = json.loads(response.read(_SMALL))
        return "; ".join(_message(item) for item in document["errors"])[:1000]
    return ""


def _message(item: dict[str, Any]) -> str:
    code = str(item.get("code") or "").lower().replace("_", " ")
    text = str(item.get("message") or "")
    return f"{code}: {text}" if code and text else code or text
