"""Parses a command line by the docker client's rules.

Those are the rules of Go's pflag: ``--name value``, ``--name=value``, ``-n value``, ``-nvalue``,
``-n=value``, switches combined (``-it``), switches with a value (``--rm=false``), ``--`` ends the
options. They differ from click's, which has no switch with a value.
"""

from __future__ import annotations

from pannier.cli.command import UsageError, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.cli.command import Command, Flag

__all__ = ["HelpAsked", "parse"]

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class HelpAsked(Exception):
    """``--help`` stands among the options."""


def parse(command: Command, words: Sequence[str]) -> Values:
    """Return what ``words`` say.

    :raises UsageError: for an unknown flag, a missing or a wrong value, a wrong number of
        arguments.
    :raises HelpAsked: for ``--help``.
    """
    return _Parser(command, words).parse()


class _Parser:
    def __init__(self, command: Command, words: Sequence[str]) -> None:
        self._command = command
        self._words = list(words)
        self._position = 0
        self._long = {one.long: one for one in command.flags}
        self._short = {one.short: one for one in command.flags if one.short}
        self._values = Values(command.flags)

    def parse(self) -> Values:
        args = self._values.args
        if self._command.raw:
            if self._words[:1] in (["--help"], ["-h"]):
                raise HelpAsked
            args += self._words
            return self._values
        while self._position < len(self._words):
            word = self._words[self._position]
            self._position += 1
            if word == "--":
                break
            if word.startswith("--"):
                self._take_long(word[2:])
            elif word.startswith("-") and word != "-":
                self._take_short(word[1:])
            else:
                args.append(word)
                if self._command.rest:
                    break
        args += self._words[self._position :]
        self._command.check(args)
        return self._values

    def _hint(self) -> str:
        return f"see 'pannier {self._command.name} --help'"

    def _take_long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        flag = self._long.get(name)
        if flag is None:
            if name == "help":
                raise HelpAsked
            raise UsageError(f"unknown flag: --{name}", hint=self._hint())
        if equals:
            self._set(flag, value)
        elif flag.kind in ("bool", "optional"):
            self._set(flag, "true" if flag.kind == "bool" else "")
        else:
            self._set(flag, self._next(f"--{name}"))

    def _take_short(self, word: str) -> None:
        for index, letter in enumerate(word):
            flag = self._short.get(letter)
            tail = word[index + 1 :]
            if flag is None:
                if letter == "h":
                    raise HelpAsked
                raise UsageError(
                    f"unknown shorthand flag: {letter!r} in -{word}", hint=self._hint()
                )
            if flag.kind == "bool" and not tail.startswith("="):
                self._set(flag, "true")
                continue
            if tail:
                self._set(flag, tail.removeprefix("="))
            else:
                self._set(flag, self._next(f"{letter!r} in -{word}"))
            return

    def _next(self, name: str) -> str:
        if self._position >= len(self._words):
            raise UsageError(f"flag needs an argument: {name}", hint=self._hint())
        self._position += 1
        return self._words[self._position - 1]

    def _set(self, flag: Flag, value: str) -> None:
        if flag.kind == "bool":
            if value in _TRUE:
                value = "true"
            elif value in _FALSE:
                value = "false"
            else:
                raise UsageError(
                    f'invalid argument "{value}" for "{flag.title}" flag: write true or false',
                    hint=self._hint(),
                )
        self._values.set(flag, value)
