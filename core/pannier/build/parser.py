"""From a Dockerfile's text to its instructions, each with its arguments understood.

The messages are Docker's, with the line before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.build.arguments import (
    Flags,
    bad,
    command_of,
    json_list,
    list_of,
    pairs_of,
    single,
)
from pannier.build.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Health,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    SetShell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from pannier.build.lexer import Source, Statement, read_source, statements
from pannier.build.runflags import parse_mount
from pannier.build.words import split_words
from pannier.errors import InvalidRequest
from pannier.images.config import Healthcheck
from pannier.images.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Dockerfile", "parse_dockerfile", "parse_trigger"]

_NAME: Final = re.compile(r"[a-z][a-z0-9-_.]*")
_MILLISECOND: Final = 1_000_000
_NETWORKS: Final = ("default", "none", "host")


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole Dockerfile.

    :param escape: the character that continues lines and escapes others.
    """

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def parse_dockerfile(data: bytes) -> Dockerfile:
    """Return a Dockerfile's instructions.

    :raises InvalidRequest: it breaks the language's rules; the message names the line.
    """
    source = read_source(data)
    found = tuple(_parse(statement, source) for statement in statements(source))
    if not found:
        raise InvalidRequest("the Dockerfile cannot be empty", hint="it begins with FROM")
    return Dockerfile(found, source.escape)


def parse_trigger(expression: str, line: int) -> Instruction:
    """Return the instruction of an ONBUILD trigger.

    :param line: of the FROM that brings it in.
    :raises InvalidRequest: as :func:`parse_dockerfile`.
    """
    source = Source(tuple(expression.split("\n")))
    found = [_parse(statement, source) for statement in statements(source)]
    if len(found) != 1 or isinstance(found[0], (From, Onbuild, Maintainer)):
        raise InvalidRequest(
            f"Dockerfile:{line}: {expression[:100]!r} isn't allowed as an ONBUILD trigger",
            hint="the base image brings it in; use another base",
        )
    return found[0]


def _parse(statement: Statement, source: Source) -> Instruction:
    handler = _HANDLERS.get(statement.keyword)
    try:
        if handler is None:
            raise bad(f"unknown instruction: {statement.keyword[:50]}")
        return handler(statement, Flags(statement), source.escape)
    except InvalidRequest as error:
        if error.message.startswith("Dockerfile:"):
            raise
        message = f"Dockerfile:{statement.line}: {error.message}"
        raise InvalidRequest(message, hint=error.hint) from None


def _from(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    platform = flags.text("platform")
    flags.done()
    words = statement.rest.split()
    if len(words) == 1:
        return From(statement, words[0], platform=platform)
    if len(words) != 3 or words[1].upper() != "AS":
        raise bad(
            "FROM requires either one argument, or three: FROM <source> [as <name>]",
        )
    name = words[2].lower()
    if not _NAME.fullmatch(name):
        raise bad(
            f"invalid name for build stage: {words[2][:50]!r}, name can't start with a number or "
            "contain symbols",
            "use letters, digits, -, _ and .",
        )
    if name in ("context", "scratch"):
        raise bad(f"invalid name for build stage: {name!r}: the name is reserved")
    return From(statement, words[0], name, platform)


def _arg(statement: Statement, flags: Flags, escape: str) -> Instruction:
    flags.done()
    words = split_words(statement.rest, escape)
    if not words:
        raise bad("ARG requires at least one argument")
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise bad("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return Arg(statement, tuple(pairs))


def _env(statement: Statement, flags: Flags, escape: str) -> Instruction:
    flags.done()
    return Env(statement, pairs_of(statement, escape))


def _label(statement: Statement, flags: Flags, escape: str) -> Instruction:
    flags.done()
    return Label(statement, pairs_of(statement, escape))


def _run(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    mounts = tuple(parse_mount(text) for text in flags.many("mount"))
    network = flags.text("network") or "default"
    if network not in _NETWORKS:
        raise bad(f"unsupported network mode: {network[:50]!r}", "use default, none or host")
    if flags.text("security") not in ("", "sandbox"):
        raise bad("RUN --security=insecure is not supported", "leave the flag out")
    flags.done()
    if not statement.rest:
        raise bad("RUN requires at least one argument")
    command = command_of(statement.rest)
    if not command.words:
        raise bad("RUN requires at least one argument")
    return Run(statement, command, mounts, network, statement.heredocs)


def _copy(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    keyword = statement.keyword
    add = keyword == "ADD"
    words = list_of(keyword, statement.rest)
    if len(words) < 2:
        raise bad(f"{keyword} requires at least two arguments, but only one was provided")
    flags.on("link")
    if add:
        flags.on("keep-git-dir")
    made = Copy(
        statement,
        words[:-1],
        words[-1],
        add=add,
        origin="" if add else flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        parents=False if add else flags.on("parents"),
        excludes=tuple(flags.many("exclude")),
        checksum=flags.text("checksum") if add else "",
        heredocs=statement.heredocs,
    )
    flags.done()
    return made


def _workdir(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    return Workdir(statement, single(statement))


def _user(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    return User(statement, single(statement))


def _volume(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    paths = tuple(path.strip() for path in list_of("VOLUME", statement.rest))
    if not all(paths):
        raise bad("VOLUME specified can not be an empty string")
    return Volume(statement, paths)


def _expose(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    ports = statement.rest.split()
    if not ports:
        raise bad("EXPOSE requires at least one argument")
    return Expose(statement, tuple(sorted(ports)))


def _entrypoint(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    return Entrypoint(statement, command_of(statement.rest))


def _cmd(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    return Cmd(statement, command_of(statement.rest))


def _shell(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    words = json_list(statement.rest)
    if words is None:
        raise bad("SHELL requires the arguments to be in JSON form", 'write ["/bin/sh", "-c"]')
    if not words:
        raise bad("SHELL requires at least one argument")
    return SetShell(statement, words)


def _stopsignal(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    return StopSignal(statement, single(statement))


def _onbuild(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    trigger = statement.rest.split(maxsplit=1)[0].upper() if statement.rest else ""
    if not trigger:
        raise bad("ONBUILD requires at least one argument")
    if trigger == "ONBUILD":
        raise bad("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise bad(f"{trigger} isn't allowed as an ONBUILD trigger")
    if trigger not in _HANDLERS:
        raise bad(f"unknown instruction: {trigger[:50]}")
    below = [f"{heredoc.content}{heredoc.name}" for heredoc in statement.heredocs]
    lines = [statement.rest, *below]
    return Onbuild(statement, "\n".join(lines))


def _maintainer(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    flags.done()
    return Maintainer(statement, single(statement))


def _healthcheck(statement: Statement, flags: Flags, _escape: str) -> Instruction:
    kind, _, command = statement.rest.partition(" ")
    command = command.strip()
    if not kind:
        raise bad("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        flags.done()
        if command:
            raise bad("HEALTHCHECK NONE takes no arguments")
        return Health(statement, Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD":
        raise bad(f'Unknown type "{kind.upper()[:50]}" in HEALTHCHECK (try CMD)')
    words = json_list(command)
    if words == () or not command:
        raise bad("Missing command after HEALTHCHECK CMD")
    check = Healthcheck(
        test=("CMD-SHELL", command) if words is None else ("CMD", *words),
        interval=_duration(flags, "interval"),
        timeout=_duration(flags, "timeout"),
        start_period=_duration(flags, "start-period"),
        start_interval=_duration(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )
    flags.done()
    return Health(statement, check)


def _duration(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    duration = parse_duration(text)
    if 0 < duration < _MILLISECOND:
        raise bad(f'Interval "{name}" cannot be less than 1ms')
    return duration


def _retries(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise bad(f"--retries must be a number (not {text[:20]})")
    if int(text) < 1:
        raise bad(f"--retries must be at least 1 (not {text})")
    return int(text)


_HANDLERS: Final[dict[str, Callable[[Statement, Flags, str], Instruction]]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
