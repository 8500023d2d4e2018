"""Cuts a template into text and actions, and an action into tokens."""

from __future__ import annotations

import re

from pannier.cli.template_functions import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Token", "split_actions", "tokenize"]

_QUOTED = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|\'(?:[^\'\\\n]|\\.)*\''
_ACTION_END = re.compile(rf"(?:{_QUOTED}|(?!-?\}}\}})[^\"`'])*?(?:\s-)?\}}\}}", re.DOTALL)
_TOKEN = re.compile(
    rf"""(?P<space>\s+)|(?P<quoted>{_QUOTED})|(?P<assign>:?=)|(?P<punct>[|(),])
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?))
    |(?P<field>\.[^\W\d]\w*)|(?P<dot>\.)|(?P<variable>\$\w*)|(?P<word>[^\W\d]\w*)""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b"}
_ESCAPES.update(f="\f", v="\v")
_WORDS = {"true": True, "false": False, "nil": None}


class Token:
    """One token of an action.

    :param joined: it follows the token before it without a space, so that ``.a`` is a chain.
    """

    __slots__ = ("joined", "kind", "text", "value")

    def __init__(self, kind: str, text: str, *, value: Any = None, joined: bool = False) -> None:
        self.kind = kind
        self.text = text
        self.value = value
        self.joined = joined


def split_actions(source: str) -> list[tuple[str, str]]:
    """Return the parts of a template: ``("text", …)`` and ``("action", …)``, trimmed.

    :raises TemplateError: where an action or a comment is not closed.
    """
    parts: list[tuple[str, str]] = []
    position, trim = 0, False
    while (start := source.find("{{", position)) >= 0:
        text = source[position:start]
        start += 2
        trim_before = source.startswith("-", start) and source[start + 1 : start + 2].isspace()
        start += trim_before
        body, position, trim_after = _action(source, start)
        text = text.lstrip() if trim else text
        parts.append(("text", text.rstrip() if trim_before else text))
        if not body.strip().startswith("/*"):
            parts.append(("action", body))
        trim = trim_after
    text = source[position:]
    parts.append(("text", text.lstrip() if trim else text))
    return [(kind, text) for kind, text in parts if kind == "action" or text]


def _action(source: str, start: int) -> tuple[str, int, bool]:
    """Return an action's text, where it ends, and whether it trims what follows."""
    stripped = start + len(source[start:]) - len(source[start:].lstrip())
    if source.startswith("/*", stripped):
        end = source.find("*/", stripped)
        close = source.find("}}", end)
        if end < 0 or close < 0 or source[end + 2 : close].strip() not in ("", "-"):
            raise TemplateError("unclosed comment")
        return source[start:end], close + 2, source[end + 2 : close].strip() == "-"
    found = _ACTION_END.match(source, start)
    if found is None:
        raise TemplateError("unclosed action")
    body = found.group()[:-2]
    trim = body.endswith("-") and body[-2:-1].isspace()
    return (body[:-1] if trim else body), found.end(), trim


def tokenize(action: str) -> list[Token]:
    """Return an action's tokens.

    :raises TemplateError: for a character that begins none, or a malformed literal.
    """
    tokens: list[Token] = []
    position, spaced = 0, True
    while position < len(action):
        found = _TOKEN.match(action, position)
        if found is None:
            raise TemplateError(f"unexpected {action[position : position + 10]!r} in an action")
        position = found.end()
        kind, text = str(found.lastgroup), found.group()
        if kind == "space":
            spaced = True
            continue
        tokens.append(_token(kind, text, joined=not spaced))
        spaced = False
    return tokens


def _token(kind: str, text: str, *, joined: bool) -> Token:
    if kind == "quoted":
        return Token("literal", text, value=_unquote(text), joined=joined)
    if kind == "number":
        return Token("literal", text, value=_number(text), joined=joined)
    if kind == "punct":
        return Token(text, text, joined=joined)
    if kind == "field":
        return Token(kind, text[1:], joined=joined)
    if kind == "word" and text in _WORDS:
        return Token("literal", text, value=_WORDS[text], joined=joined)
    return Token(kind, text, joined=joined)


def _number(text: str) -> int | float:
    plain = text.replace("_", "")
    try:
        if plain.lstrip("+-").lower().startswith("0x"):
            return int(plain, 16)
        return float(plain) if any(one in plain for one in ".eE") else int(plain)
    except ValueError:
        raise TemplateError(f"bad number syntax: {text!r}") from None


def _unquote(text: str) -> str | int:
    inner = text[1:-1]
    if text.startswith("`"):
        return inner
    plain = re.sub(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", _unescape, inner)
    if text.startswith("'"):
        if len(plain) != 1:
            raise TemplateError(f"malformed character constant: {text}")
        return ord(plain)
    return plain


def _unescape(found: re.Match[str]) -> str:
    code = found.group(1)
    if code in _ESCAPES:
        return _ESCAPES[code]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    raise TemplateError(f"unknown escape: \\{code}")
