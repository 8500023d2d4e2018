"""``--change`` of commit and import: some of the Dockerfile's instructions, applied to a config.

The messages are Docker's.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest
from pannier.images.config import Healthcheck, RunConfig
from pannier.images.durations import parse_duration
from pannier.images.words import expand, expand_words, name_values, split_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["apply_changes", "merge_env"]

_DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(?:.*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?", re.ASCII)
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_SIGNAL = re.compile(r"(?:SIG)?(?:[A-Z]+[0-9]?(?:[+-][0-9]+)?)|[0-9]{1,2}", re.ASCII)
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
_MILLISECOND = 1_000_000
_HINT = (
    "a change is one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, "
    "USER, VOLUME and WORKDIR"
)


def apply_changes(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """Return a configuration with instructions applied to it, in order.

    :raises InvalidRequest: an instruction is unknown or malformed.
    """
    editor = _Editor(config)
    for instruction in _instructions(changes):
        editor.apply(instruction)
    return editor.config


def _instructions(changes: Iterable[str]) -> list[str]:
    """Join continued lines, and leave out empty ones and comments."""
    instructions = []
    current = ""
    for line in "\n".join(changes).splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        current += stripped
        if current.endswith("\\"):
            current = current[:-1]
            continue
        instructions.append(current)
        current = ""
    return [*instructions, current] if current else instructions


def _bad(message: str, hint: str = _HINT) -> InvalidRequest:
    return InvalidRequest(message, hint=hint)


class _Editor:
    """Applies instructions one after another."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._cmd_set = False
        self._handlers: dict[str, Callable[[str], None]] = {
            "cmd": self._cmd,
            "entrypoint": self._entrypoint,
            "env": self._env,
            "expose": self._expose,
            "healthcheck": self._healthcheck,
            "label": self._label,
            "onbuild": self._onbuild,
            "stopsignal": self._stopsignal,
            "user": self._user,
            "volume": self._volume,
            "workdir": self._workdir,
        }

    def apply(self, instruction: str) -> None:
        word, _, rest = instruction.partition(" ")
        handler = self._handlers.get(word.lower())
        if handler is None:
            raise _bad(f"{word.lower()[:50]} is not a valid change command")
        handler(rest.strip())

    @property
    def _variables(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.config.env)

    def _cmd(self, rest: str) -> None:
        self.config = replace(self.config, cmd=self._command(rest))
        self._cmd_set = True

    def _entrypoint(self, rest: str) -> None:
        self.config = replace(self.config, entrypoint=self._command(rest))
        if not self._cmd_set:
            # The command that was there was meant for another entrypoint.
            self.config = replace(self.config, cmd=None)

    def _command(self, rest: str) -> tuple[str, ...]:
        listed = _json_list(rest)
        if listed is not None:
            return listed
        if not rest:
            return ()
        return (*(self.config.shell or _DEFAULT_SHELL), rest)

    def _env(self, rest: str) -> None:
        pairs = _pairs("ENV", rest)
        variables = self._variables
        changed = [(expand(key, variables), expand(value, variables)) for key, value in pairs]
        env = merge_env(self.config.env, [f"{key}={value}" for key, value in changed])
        self.config = replace(self.config, env=env)

    def _label(self, rest: str) -> None:
        labels = dict(self.config.labels)
        for key, value in _pairs("LABEL", rest):
            labels[expand(key, self._variables)] = expand(value, self._variables)
        self.config = replace(self.config, labels=labels)

    def _expose(self, rest: str) -> None:
        words = expand_words(rest, self._variables)
        if not words:
            raise _bad("EXPOSE requires at least one argument")
        ports = dict.fromkeys(self.config.exposed_ports)
        for word in words:
            ports.update(dict.fromkeys(_ports(word)))
        self.config = replace(self.config, exposed_ports=tuple(ports))

    def _volume(self, rest: str) -> None:
        listed = _json_list(rest)
        words = split_words(rest) if listed is None else listed
        if not words:
            raise _bad("VOLUME requires at least one argument")
        volumes = dict.fromkeys(self.config.volumes)
        for word in words:
            path = expand(word, self._variables).strip()
            if not path:
                raise _bad("VOLUME specified can not be an empty string")
            volumes[path] = None
        self.config = replace(self.config, volumes=tuple(volumes))

    def _user(self, rest: str) -> None:
        self.config = replace(self.config, user=self._one("USER", rest))

    def _workdir(self, rest: str) -> None:
        path = self._one("WORKDIR", rest)
        if not path:
            raise _bad("WORKDIR requires exactly one argument")
        if not path.startswith("/"):
            path = posixpath.normpath(posixpath.join("/", self.config.working_dir, path))
        self.config = replace(self.config, working_dir=path)

    def _stopsignal(self, rest: str) -> None:
        signal = self._one("STOPSIGNAL", rest)
        if not _SIGNAL.fullmatch(signal.upper()):
            raise _bad(f"Invalid signal: {signal[:50]}", "use a name or number: SIGTERM, 15")
        self.config = replace(self.config, stop_signal=signal)

    def _one(self, name: str, rest: str) -> str:
        if not rest:
            raise _bad(f"{name} requires exactly one argument")
        return expand(rest, self._variables)

    def _onbuild(self, rest: str) -> None:
        trigger = rest.partition(" ")[0].upper()
        if not trigger:
            raise _bad("ONBUILD requires at least one argument")
        if trigger == "ONBUILD":
            raise _bad("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        if trigger in ("MAINTAINER", "FROM"):
            raise _bad(f"{trigger} isn't allowed as an ONBUILD trigger")
        self.config = replace(self.config, on_build=(*self.config.on_build, rest))

    def _healthcheck(self, rest: str) -> None:
        flags: dict[str, str] = {}
        while match := _FLAG.match(rest):
            flags[match[1]] = match[2] or ""
            rest = rest[match.end() :]
        kind, _, command = rest.partition(" ")
        command = command.strip()
        if not kind:
            raise _bad("HEALTHCHECK requires at least one argument")
        if kind.upper() == "NONE":
            if command:
                raise _bad("HEALTHCHECK NONE takes no arguments")
            self.config = replace(self.config, healthcheck=Healthcheck(test=("NONE",)))
            return
        if kind.upper() != "CMD":
            raise _bad(f'Unknown type "{kind.upper()[:50]}" in HEALTHCHECK (try CMD)')
        listed = _json_list(command)
        if listed == () or not command:
            raise _bad("Missing command after HEALTHCHECK CMD")
        test = ("CMD-SHELL", command) if listed is None else ("CMD", *listed)
        self.config = replace(self.config, healthcheck=_timed(test, flags))


def _timed(test: tuple[str, ...], flags: dict[str, str]) -> Healthcheck:
    fields = {
        "interval": "interval",
        "timeout": "timeout",
        "start-period": "start_period",
        "start-interval": "start_interval",
    }
    times: dict[str, int] = {}
    for flag, value in flags.items():
        if flag == "retries":
            if not value.isascii() or not value.isdigit() or not int(value[:9]) >= 1:
                raise _bad(f"--retries must be at least 1 (not {value[:20]})")
            times["retries"] = int(value[:9])
        elif flag in fields:
            duration = parse_duration(value)
            if duration and duration < _MILLISECOND:
                raise _bad(f'Interval "{flag}" cannot be less than 1ms')
            times[fields[flag]] = duration
        else:
            raise _bad(f"unknown flag: --{flag}")
    return Healthcheck(test=test, **times)


def _json_list(text: str) -> tuple[str, ...] | None:
    """Return a list of strings in JSON, or None for anything else (then it is a shell's line).

    What follows the list is ignored, as Docker does.
    """
    if not text.startswith("["):
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)


def _pairs(name: str, rest: str) -> tuple[tuple[str, str], ...]:
    return name_values(name, rest, split_words(rest), _HINT)


def _ports(word: str) -> list[str]:
    """Return the ports of ``80``, ``80/udp`` or ``8000-8010/tcp``."""
    match = _PORT.fullmatch(word)
    first, last, protocol = match.groups() if match else (None, None, None)
    if first is None or not 0 <= int(first) <= int(last or first) <= 65535:
        raise _bad(f"Invalid containerPort: {word[:50]}", "a port is 80, 80/udp or 8000-8010/tcp")
    kind = (protocol or "tcp").lower()
    if kind not in _PROTOCOLS:
        raise _bad(f"Invalid proto: {kind[:50]}", "a port's protocol is tcp, udp or sctp")
    return [f"{port}/{kind}" for port in range(int(first), int(last or first) + 1)]


def merge_env(env: Sequence[str], changes: Iterable[str]) -> tuple[str, ...]:
    """Return an environment with variables set; one that was there keeps its place."""
    merged = {entry.partition("=")[0]: entry for entry in env}
    for entry in changes:
        merged[entry.partition("=")[0]] = entry
    return tuple(merged.values())
