"""The functions of ``--format`` templates, and how values are looked up, shown and judged."""

from __future__ import annotations

import json

from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["FUNCTIONS", "TemplateError", "field", "show", "truth"]

#: The most that one padding or format may add: a template is no way to fill the memory.
_WIDTH_LIMIT = 100_000


class TemplateError(InvalidRequest):
    """A ``--format`` template is malformed, or does not fit what it is given."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"template: {message}",
            hint="for example --format '{{.ID}}: {{json .}}', --format json, --format 'table …'",
        )
        self.bare = message

    def __str__(self) -> str:
        return f"template: {self.bare}"


_OTHERWISE = {"AuxAddress": "AuxiliaryAddresses"}


def field(value: Any, name: str, missing: Any) -> Any:
    """Return a field; names match without regard to case where none matches exactly.

    The docker client's names (``ID``, ``CPUShares``) and the API's (``Id``, ``CpuShares``) differ
    in case only, but for one.
    """
    if isinstance(value, dict):
        if name in value:
            return value[name]
        wanted = _OTHERWISE.get(name, name).lower()
        for key, found in value.items():
            if isinstance(key, str) and key.lower() == wanted:
                return found
        return missing
    if value is None:
        raise TemplateError(f"nil value; no entry for key {name!r}")
    raise TemplateError(f"can't evaluate field {name} in {_kind(value)}")


def _kind(value: Any) -> str:
    names = {str: "string", bool: "bool", int: "int", float: "float64", list: "list", dict: "map"}
    return names.get(type(value), "a value")


def truth(value: Any) -> bool:
    """Say whether a value counts as true: it is not empty, zero, false or nil."""
    return bool(value)


def show(value: Any, *, inside: bool = False) -> str:
    """Return a value as Go prints it."""
    if value is None:
        return "<nil>" if inside else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(one, inside=True) for one in value) + "]"
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
        return "map[" + " ".join(f"{key}:{show(one, inside=True)}" for key, one in pairs) + "]"
    return str(value)


def _json(value: Any) -> str:
    plain = (
        {k: v for k, v in value.items() if not callable(v)} if isinstance(value, dict) else value
    )
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(values: list[Any] | None, separator: str) -> str:
    if values is not None and not isinstance(values, list):
        raise TemplateError("expected a list")
    return separator.join(show(one) for one in values or [])


def _pad(text: str, before: int, after: int) -> str:
    _bound(before, after)
    return " " * before + text + " " * after if text else text


def _bound(*widths: int) -> None:
    if any(abs(width) > _WIDTH_LIMIT for width in widths):
        raise TemplateError("the width is too large")


def _truncate(text: str, width: int) -> str:
    return text[: max(width, 0)]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise TemplateError("index of untyped nil")
        if isinstance(value, dict):
            # A missing key of a map of texts is the empty text, as in Go.
            value = value.get(str(key), "")
        elif isinstance(value, (list, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateError(f"cannot index with {show(key)}")
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TemplateError(f"can't index item of type {_kind(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, (list, str)) or len(bounds) > 2:
        raise TemplateError("can't slice this")
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= start <= end <= len(value):
        raise TemplateError(f"index out of range: {start}:{end}")
    return value[start:end]


def _len(value: Any) -> int:
    if not isinstance(value, (str, list, dict)):
        raise TemplateError(f"len of type {_kind(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(first == one and isinstance(first, bool) == isinstance(one, bool) for one in others)


def _print(*values: Any) -> str:
    text, previous = "", None
    for index, value in enumerate(values):
        # Go puts spaces between operands when neither is a string.
        if index and not isinstance(value, str) and not isinstance(previous, str):
            text += " "
        text += show(value)
        previous = value
    return text


def _printf(format: str, *values: Any) -> str:
    import re

    left = list(values)

    def one(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        _bound(int(width or 0), int((precision or ".0")[1:] or 0))
        return _verb(flags + width + (precision or ""), verb, left.pop(0))

    text = re.sub(r"%([-+ #0]*)(\d*)(\.\d*)?([a-zA-Z%])", one, format)
    extra = ", ".join(f"{_kind(value)}={show(value)}" for value in left)
    return f"{text}%!(EXTRA {extra})" if extra else text


def _verb(spec: str, verb: str, value: Any) -> str:
    if verb == "q":
        return f"%{spec}s" % json.dumps(show(value), ensure_ascii=False)
    if verb in "vst":
        return f"%{spec}s" % show(value)
    if verb in "dxXobfFeEgGc" and isinstance(value, (int, float)) and not isinstance(value, bool):
        if verb == "b":
            return f"%{spec}s" % format(int(value), "b")
        number = value if verb in "fFeEgG" else int(value)
        return f"%{spec}{verb}" % number
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex()
    return f"%!{verb}({_kind(value)}={show(value)})"


def _never(*values: Any) -> Any:
    """Stand for ``and`` and ``or``, which the evaluator does itself to stop early."""
    return values[-1]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _never,
    "eq": _eq,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "index": _index,
    "join": _join,
    "json": _json,
    "le": lambda a, b: a <= b,
    "len": _len,
    "lower": lambda text: text.lower(),
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: not _eq(a, b),
    "not": lambda value: not truth(value),
    "or": _never,
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(show(one) for one in values) + "\n",
    "slice": _slice,
    "split": _split,
    "title": lambda text: text[:1].upper() + text[1:],
    "truncate": _truncate,
    "upper": lambda text: text.upper(),
}
