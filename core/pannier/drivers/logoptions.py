"""Options that log drivers have in common, with Docker's names, meanings and messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pannier.drivers.log import LogForm
from pannier.drivers.sizes import parse_size
from pannier.errors import InvalidRequest
from pannier.patterns import searcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pannier.drivers.log import LogSource

__all__ = ["attributes", "check_tag", "expand_tag", "flag", "refuse_unknown", "rotation"]

_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")

_WORDS: dict[str, Callable[[LogSource], str]] = {
    "ID": lambda source: source.id[:12],
    "FullID": lambda source: source.id,
    "Name": lambda source: source.name,
    "ImageID": lambda source: source.image_id.removeprefix("sha256:")[:12],
    "ImageFullID": lambda source: source.image_id,
    "ImageName": lambda source: source.image_name,
    "Command": lambda source: " ".join(source.args),
    "Hostname": lambda source: source.host,
    "DaemonName": lambda _: "pannier",
}
_FIELDS = frozenset(
    {".Config", ".ExtraAttributes", ".LogPath"}
    | {f".Container{name}" for name in ("ID", "Name", "Entrypoint", "Args", "ImageID")}
    | {f".Container{name}" for name in ("ImageName", "Created", "Env", "Labels")}
)
"""What else Docker's templates offer."""

_PLAIN = re.compile(r"\.\w+")


def refuse_unknown(driver: str, options: Mapping[str, str], known: Iterable[str]) -> None:
    """Refuse an option that a driver does not have.

    :raises InvalidRequest: in Docker's words.
    """
    names = tuple(known)
    for name in options:
        if name not in names:
            raise InvalidRequest(
                f"unknown log opt '{name}' for {driver} log driver",
                hint=f"there are: {', '.join(names) or 'none'}",
            )


def flag(options: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Return an option that is true or false.

    :raises InvalidRequest: it is neither.
    """
    text = options.get(name, "").lower()
    if text not in ("", *_TRUE, *_FALSE):
        raise InvalidRequest(f"invalid value for log opt {name}: {options[name]!r}")
    return text in _TRUE if text else default


def rotation(
    options: Mapping[str, str], max_size: str = "", max_files: int = 1, prefix: str = ""
) -> LogForm:
    """Return the form of file that ``max-size`` and ``max-file`` ask for.

    :param max_size: what holds where the options do not say; empty or ``-1`` for no limit.
    :param max_files: likewise.
    :param prefix: of the options' names, such as ``cache-``.
    :raises InvalidRequest: a value is malformed.
    """
    size = options.get(f"{prefix}max-size", max_size)
    files = options.get(f"{prefix}max-file", str(max_files))
    limit = 0
    if size not in ("", "-1"):
        limit = parse_size(size, f"log-opt {prefix}max-size")
        if limit == 0:
            raise InvalidRequest(f"{prefix}max-size must be a positive number")
    if not (files.isascii() and files.isdecimal() and int(files) > 0):
        raise InvalidRequest(
            f"invalid value for log opt {prefix}max-file: {files!r}: at least 1 is kept"
        )
    if flag(options, f"{prefix}compress") and (int(files) < 2 or limit == 0):
        raise InvalidRequest(
            f"{prefix}compress cannot be true when {prefix}max-file is less than 2 or "
            f"{prefix}max-size is not set"
        )
    return LogForm(limit, int(files))


def attributes(options: Mapping[str, str], source: LogSource) -> dict[str, str]:
    """Return what ``labels``, ``env``, their ``-regex`` and ``tag`` have said with each line.

    :raises InvalidRequest: a regular expression is none.
    """
    variables = dict(entry.partition("=")[::2] for entry in source.environment)
    found: dict[str, str] = {}
    for option, values in (("labels", source.labels), ("env", variables)):
        names = {name.strip() for name in options.get(option, "").split(",")}
        finds = _finder(options, f"{option}-regex")
        found |= {name: value for name, value in values.items() if name in names or finds(name)}
    if tag := options.get("tag"):
        try:
            found["tag"] = expand_tag(tag, source)
        except InvalidRequest:  # a template that Go knows more of
            found["tag"] = tag
    return found


def _finder(options: Mapping[str, str], name: str) -> Callable[[str], object]:
    if not options.get(name):
        return lambda _: None
    try:
        return searcher(options[name])
    except ValueError as error:
        raise InvalidRequest(f"invalid log opt {name}: {options[name]!r}: {error}") from None


def check_tag(template: str, *, strict: bool = True) -> None:
    """Check the template of a ``tag``.

    :param strict: what Go's templates know besides plain words is refused, too.
    :raises InvalidRequest: it uses something that does not exist.
    """
    for _, word in _places(template)[:-1]:
        if not strict and (word in _FIELDS or not _PLAIN.fullmatch(word)):
            continue
        if word.removeprefix(".") not in _WORDS or not word.startswith("."):
            raise InvalidRequest(
                f"invalid log opt tag: {template!r} uses {{{{{word}}}}}",
                hint=f"there are: {', '.join(f'{{{{.{name}}}}}' for name in _WORDS)}",
            )


def expand_tag(template: str, source: LogSource) -> str:
    """Return a ``tag`` with ``{{.Name}}``, ``{{.ID}}`` and their like replaced.

    :raises InvalidRequest: as :func:`check_tag`.
    """
    check_tag(template)
    *places, (rest, _) = _places(template)
    return "".join(text + _WORDS[word.removeprefix(".")](source) for text, word in places) + rest


def _places(template: str) -> list[tuple[str, str]]:
    """Return each text of a template with the word in braces behind it; none is behind the last."""
    found: list[tuple[str, str]] = []
    done = 0
    while (begin := template.find("{{", done)) >= 0:
        end = template.find("}}", begin + 2)
        if end < 0:
            break
        found.append((template[done:begin], template[begin + 2 : end].strip()))
        done = end + 2
    return [*found, (template[done:], "")]
