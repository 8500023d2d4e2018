"""The instructions that change nothing but the image's configuration."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pannier.build import gotext
from pannier.build.instructions import (
    Arg,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Health,
    Label,
    Maintainer,
    Onbuild,
    SetShell,
    StopSignal,
    User,
    Volume,
)
from pannier.build.words import expand, expand_words
from pannier.errors import InvalidRequest
from pannier.images.changes import merge_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pannier.build.instructions import Command, Instruction
    from pannier.build.scope import Arguments
    from pannier.images.config import RunConfig

__all__ = ["Configured", "configure", "full_command", "nop", "shell_of", "working_dir"]

_DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_PORT: Final = re.compile(r"(?:.*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?", re.ASCII)
_PROTOCOLS: Final = frozenset({"tcp", "udp", "sctp"})
_SIGNAL: Final = re.compile(r"(?:SIG)?(?:[A-Z]+[0-9]*(?:[+-][0-9]+)?)|[0-9]{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Configured:
    """A configuration after an instruction.

    :param comment: what the history says of it.
    :param author: what MAINTAINER said; None leaves the author.
    :param cmd_set: the stage has had a CMD of its own.
    """

    config: RunConfig
    comment: str
    author: str | None = None
    cmd_set: bool = False


def shell_of(config: RunConfig) -> tuple[str, ...]:
    """Return the words that a shell's line is put behind."""
    return config.shell or _DEFAULT_SHELL


def nop(config: RunConfig, comment: str) -> str:
    """Return the ``created_by`` of an instruction that runs nothing."""
    return f"{' '.join(shell_of(config))} #(nop) {comment}"


def full_command(command: Command, config: RunConfig) -> tuple[str, ...]:
    """Return all the words that a command executes."""
    return (*shell_of(config), *command.words) if command.line else command.words


def working_dir(config: RunConfig, path: str) -> str:
    """Return what a path is, seen from the working directory."""
    if path.startswith("/"):
        return path
    return posixpath.normpath(posixpath.join("/", config.working_dir, path))


class _Words:
    """Replaces variables, by what is in scope."""

    def __init__(self, variables: Mapping[str, str], escape: str) -> None:
        self._variables = variables
        self._escape = escape

    def one(self, text: str) -> str:
        return expand(text, self._variables, self._escape)

    def many(self, texts: Iterable[str]) -> list[str]:
        return [
            word for text in texts for word in expand_words(text, self._variables, self._escape)
        ]

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(self.one(key), self.one(value)) for key, value in pairs]


def configure(
    instruction: Instruction,
    config: RunConfig,
    arguments: Arguments,
    escape: str,
    *,
    cmd_set: bool,
) -> Configured | None:
    """Apply an instruction; None for one that does more than to change the configuration.

    :raises InvalidRequest: in Docker's words.
    """
    handler = _HANDLERS.get(type(instruction))
    if handler is None:
        return None
    words = _Words(arguments.variables(config.env), escape)
    if isinstance(instruction, Arg):
        return _arg(instruction, config, arguments, escape)
    if isinstance(instruction, Cmd):
        return _cmd(instruction, config)
    if isinstance(instruction, Entrypoint):
        return _entrypoint(instruction, config, cmd_set=cmd_set)
    return handler(instruction, config, words)


def _arg(instruction: Arg, config: RunConfig, arguments: Arguments, escape: str) -> Configured:
    shown = []
    for name, default in instruction.pairs:
        # One after another: a default may use the argument before it.
        words = _Words(arguments.variables(config.env), escape)
        key = words.one(name)
        value = None if default is None else words.one(default)
        arguments.declare(key, value)
        shown.append(key if value is None else f"{key}={value}")
    return Configured(config, f" ARG {' '.join(shown)}")


def _cmd(instruction: Cmd, config: RunConfig) -> Configured:
    cmd = full_command(instruction.command, config) if instruction.command.words else ()
    changed = replace(config, cmd=cmd)
    return Configured(changed, f" CMD {gotext.quoted_list(cmd)}", cmd_set=True)


def _entrypoint(instruction: Entrypoint, config: RunConfig, *, cmd_set: bool) -> Configured:
    command = instruction.command
    entrypoint = full_command(command, config) if command.words else None
    changed = replace(config, entrypoint=entrypoint)
    if not cmd_set:
        # The command that was there was meant for another entrypoint.
        changed = replace(changed, cmd=None)
    return Configured(changed, f" ENTRYPOINT {gotext.quoted_list(entrypoint or ())}")


def _env(instruction: Env, config: RunConfig, words: _Words) -> Configured:
    entries = [f"{key}={value}" for key, value in words.pairs(instruction.pairs)]
    if any(entry.startswith("=") for entry in entries):
        raise InvalidRequest("ENV names can not be blank")
    changed = replace(config, env=merge_env(config.env, entries))
    return Configured(changed, f" ENV {' '.join(entries)}")


def _label(instruction: Label, config: RunConfig, words: _Words) -> Configured:
    pairs = words.pairs(instruction.pairs)
    if not all(key for key, _ in pairs):
        raise InvalidRequest("LABEL names can not be blank")
    changed = replace(config, labels={**config.labels, **dict(pairs)})
    return Configured(changed, f" LABEL {' '.join(f'{key}={value}' for key, value in pairs)}")


def _expose(instruction: Expose, config: RunConfig, words: _Words) -> Configured:
    given = words.many(instruction.ports)
    if not given:
        raise InvalidRequest("EXPOSE requires at least one argument")
    ports = dict.fromkeys(config.exposed_ports)
    for word in given:
        ports.update(dict.fromkeys(_ports(word)))
    return Configured(replace(config, exposed_ports=tuple(ports)), f" EXPOSE {' '.join(given)}")


def _ports(word: str) -> list[str]:
    """Return the ports of ``80``, ``80/udp`` or ``8000-8010/tcp``."""
    match = _PORT.fullmatch(word)
    first, last, protocol = match.groups() if match else (None, None, None)
    if first is None or not 0 <= int(first) <= int(last or first) <= 65535:
        raise InvalidRequest(
            f"Invalid containerPort: {word[:50]}", hint="a port is 80, 80/udp or 8000-8010/tcp"
        )
    kind = (protocol or "tcp").lower()
    if kind not in _PROTOCOLS:
        raise InvalidRequest(
            f"Invalid proto: {kind[:50]}", hint="a port's protocol is tcp, udp or sctp"
        )
    return [f"{port}/{kind}" for port in range(int(first), int(last or first) + 1)]


def _volume(instruction: Volume, config: RunConfig, words: _Words) -> Configured:
    paths = [words.one(path) for path in instruction.paths]
    if not all(paths):
        raise InvalidRequest("VOLUME specified can not be an empty string")
    volumes = tuple(dict.fromkeys((*config.volumes, *paths)))
    return Configured(replace(config, volumes=volumes), f" VOLUME [{' '.join(paths)}]")


def _user(instruction: User, config: RunConfig, words: _Words) -> Configured:
    user = words.one(instruction.user)
    if not user:
        raise InvalidRequest("USER requires exactly one argument")
    return Configured(replace(config, user=user), f" USER {user}")


def _stopsignal(instruction: StopSignal, config: RunConfig, words: _Words) -> Configured:
    signal = words.one(instruction.signal)
    if not _SIGNAL.fullmatch(signal.upper()):
        raise InvalidRequest(
            f"Invalid signal: {signal[:50]}", hint="use a name or number: SIGTERM, 15"
        )
    return Configured(replace(config, stop_signal=signal), f" STOPSIGNAL {signal}")


def _shell(instruction: SetShell, config: RunConfig, _words: _Words) -> Configured:
    changed = replace(config, shell=instruction.words)
    return Configured(changed, f" SHELL [{' '.join(instruction.words)}]")


def _health(instruction: Health, config: RunConfig, _words: _Words) -> Configured:
    check = instruction.check
    changed = replace(config, healthcheck=check)
    return Configured(changed, f" HEALTHCHECK {gotext.health(check)}")


def _onbuild(instruction: Onbuild, config: RunConfig, _words: _Words) -> Configured:
    expression = instruction.expression
    changed = replace(config, on_build=(*config.on_build, expression))
    return Configured(changed, f" ONBUILD {expression}")


def _maintainer(instruction: Maintainer, config: RunConfig, words: _Words) -> Configured:
    name = words.one(instruction.name)
    return Configured(config, f" MAINTAINER {name}", author=name)


def _done_above(*_: object) -> Configured:
    raise AssertionError("has a handler with arguments of its own")


_HANDLERS: Final[dict[type[Instruction], Callable[..., Configured]]] = {
    Arg: _done_above,
    Cmd: _done_above,
    Entrypoint: _done_above,
    Env: _env,
    Expose: _expose,
    Health: _health,
    Label: _label,
    Maintainer: _maintainer,
    Onbuild: _onbuild,
    SetShell: _shell,
    StopSignal: _stopsignal,
    User: _user,
    Volume: _volume,
}
