"""The entry point ``pannier``."""

from __future__ import annotations

import os
import sys

from pannier.cli.command import Command, UsageError, Values
from pannier.cli.context import Context
from pannier.cli.parse import HelpAsked, parse
from pannier.cli.registry import COMMANDS, GROUPS, load
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]

_COMPLETION = "_PANNIER_COMPLETE"
_SIGPIPE_STATUS = 128 + 13
_SIGINT_STATUS = 128 + 2
_WITH_VALUE = {
    "-H": "host",
    "--host": "host",
    "--config": "config",
    "-c": "context",
    "--context": "context",
    "--tlscacert": "tlscacert",
    "--tlscert": "tlscert",
    "--tlskey": "tlskey",
}
_SWITCHES = {"--tls": "tls", "--tlsverify": "tlsverify"}


def main() -> None:
    """Run the command line and leave at once.

    ``os._exit`` after flushing spares the user the interpreter's tear-down, several milliseconds
    of freeing what the kernel frees anyway. Every terminal mode has been restored by then.
    """
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = status or _SIGPIPE_STATUS
    except OSError as error:
        # A full disk under stdout must not pass for success.
        os.write(2, f"Error: cannot write the output: {error.strerror}\n".encode())
        status = status or 1
    os._exit(status)


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit status."""
    if _COMPLETION in os.environ:
        return _through_click(words)
    context = Context()
    try:
        rest = _globals(context, list(words))
        return _dispatch(context, list(words), rest)
    except BrokenPipeError:
        return _SIGPIPE_STATUS
    except KeyboardInterrupt:
        return _SIGINT_STATUS
    except PannierError as error:
        context.report(error)
        return error.code if isinstance(error, UsageError) else 1
    finally:
        context.close()


def _globals(context: Context, words: list[str]) -> list[str] | None:
    """Take the options that stand before the command; return the rest, None for the help."""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-D", "--debug"):
            context.debug = True
        elif name in _SWITCHES and value in ("", "true", "1", "false", "0"):
            setattr(context, _SWITCHES[name], value not in ("false", "0"))
        elif word in ("-v", "--version"):
            return ["version", "--short"]
        elif word in ("-h", "--help"):
            return None
        elif name in _WITH_VALUE or (word.startswith("-H") and len(word) > 2):
            if name not in _WITH_VALUE:
                name, value = "-H", word[2:].removeprefix("=")
            elif not equals:
                if not words:
                    raise UsageError(f"flag needs an argument: {name}", hint="see 'pannier --help'")
                value = words.pop(0)
            _set(context, _WITH_VALUE[name], value)
        else:
            raise UsageError(_no_flag(word), hint="see 'pannier --help'")
    return words or None


def _no_flag(word: str) -> str:
    if word.startswith("--"):
        return f"unknown flag: {word}"
    return f"unknown shorthand flag: {word[1:2]!r} in {word}"


def _set(context: Context, name: str, value: str) -> None:
    if name == "host" and context.host:
        raise UsageError("specify only one -H", code=1)
    setattr(context, name, value)
    if context.host and context.context:
        raise UsageError("conflicting options: cannot specify both --host and --context", code=1)


def _dispatch(context: Context, words: list[str], rest: list[str] | None) -> int:
    if rest is None:
        return _through_click(words)
    name, tail = rest[0], rest[1:]
    target = COMMANDS.get(name)
    group = GROUPS.get(name)
    if group is not None:
        if not tail or tail[0] in ("-h", "--help"):
            return _through_click(words)
        target = group[1].get(tail[0])
        if target is None:
            raise _unknown(f"{name} {tail[0]}", [f"{name} {one}" for one in group[1]])
        tail = tail[1:]
    if target is None:
        if name == "help":
            return _through_click([*tail, "--help"])
        raise _unknown(name, [*COMMANDS, *GROUPS])
    command = load(target)
    if not isinstance(command, Command):
        return _through_click(words)
    try:
        values = parse(command, tail)
    except HelpAsked:
        return _through_click(words)
    return _execute(context, command, values)


def _execute(context: Context, command: Command, values: Values) -> int:
    """Run a parsed command; what the daemon refuses becomes the command's own status."""
    try:
        return command.run(context, values) or 0
    except UsageError:
        raise
    except PannierError as error:
        context.report(error)
        return command.failure


def _unknown(name: str, known: Sequence[str]) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean 'pannier {near[0]}'?" if near else "see 'pannier --help'"
    return UsageError(f"unknown command: pannier {name}", code=1, hint=hint)


def _through_click(words: Sequence[str]) -> int:
    """Let click answer: help, completion, and commands that are click's own."""
    from pannier.cli.clickapp import run_click

    return run_click(list(words))


if __name__ == "__main__":
    main()
