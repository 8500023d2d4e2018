"""What a command is: its flags and arguments as data, and a function that does the work."""

from __future__ import annotations

from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.cli.context import Context

__all__ = ["Argument", "Command", "Flag", "UsageError", "Values", "arg", "flag", "many", "text"]


class UsageError(InvalidRequest):
    """The command line itself is wrong.

    :param code: the exit status: 125 for flags and 1 for arguments, as the docker client has it.
    """

    def __init__(self, message: str, *, code: int = 125, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Flag:
    """One option.

    A plain class, as every value type on the way to ``run``: importing ``dataclasses`` costs as
    much as all the rest of a command's start.

    :param kind: ``bool``; ``text`` (the last one counts); ``many`` (all count); ``optional`` (a
        text that may be left out: ``--trace`` or ``--trace=FILE``).
    :param complete: what kind of name completes it (see :mod:`pannier.cli.complete`).
    :param metavar: the word for its value in the help.
    """

    __slots__ = ("complete", "default", "help", "kind", "long", "metavar", "short")

    def __init__(
        self,
        kind: str,
        names: str,
        help: str,
        *,
        default: str = "",
        metavar: str = "string",
        complete: str = "",
    ) -> None:
        short, _, long = names.rpartition(",")
        self.kind = kind
        self.short = short.strip().removeprefix("-")
        self.long = long.strip().removeprefix("--")
        self.help = help
        self.default = default
        self.metavar = metavar
        self.complete = complete

    @property
    def title(self) -> str:
        """The flag as messages name it: ``-m, --memory``."""
        return f"-{self.short}, --{self.long}" if self.short else f"--{self.long}"


def flag(names: str, help: str, *, default: str = "") -> Flag:
    """Declare a switch."""
    return Flag("bool", names, help, default=default)


def text(
    names: str, help: str, *, default: str = "", metavar: str = "string", complete: str = ""
) -> Flag:
    """Declare an option with one value."""
    return Flag("text", names, help, default=default, metavar=metavar, complete=complete)


def many(names: str, help: str, *, metavar: str = "list", complete: str = "") -> Flag:
    """Declare an option that may be given more than once."""
    return Flag("many", names, help, metavar=metavar, complete=complete)


class Argument:
    """A positional argument.

    :param least: how many are needed.
    :param most: how many may be given; None is any number.
    """

    __slots__ = ("complete", "least", "metavar", "most")

    def __init__(
        self, metavar: str, *, least: int = 1, most: int | None = 1, complete: str = ""
    ) -> None:
        self.metavar = metavar
        self.least = least
        self.most = most
        self.complete = complete


def arg(metavar: str, *, least: int = 1, most: int | None = 1, complete: str = "") -> Argument:
    """Declare a positional argument."""
    return Argument(metavar, least=least, most=most, complete=complete)


class Values:
    """What a command line gave, typed by how it is asked for."""

    __slots__ = ("_many", "_one", "args")

    def __init__(self, flags: Sequence[Flag]) -> None:
        self._one: dict[str, str] = {}
        self._many: dict[str, list[str]] = {one.long: [] for one in flags}
        self._one.update((one.long, one.default) for one in flags if one.default)
        self.args: list[str] = []

    def set(self, flag: Flag, value: str) -> None:
        """Note one occurrence of a flag."""
        self._one[flag.long] = value
        self._many[flag.long].append(value)

    def on(self, name: str) -> bool:
        """Return a switch's state."""
        assert name in self._many, name
        return self._one.get(name) == "true"

    def text(self, name: str) -> str:
        """Return an option's last value, its default, or the empty text."""
        assert name in self._many, name
        return self._one.get(name, "")

    def many(self, name: str) -> list[str]:
        """Return all the values of an option."""
        return self._many[name]

    def given(self, name: str) -> bool:
        """Say whether the command line has the option."""
        return bool(self._many[name])

    def knows(self, name: str) -> bool:
        """Say whether the command has such an option at all."""
        return name in self._many

    def number(self, name: str) -> int:
        """Return an option as an integer, 0 where it is not given.

        :raises UsageError: where it is none.
        """
        value = self.text(name)
        if not value:
            return 0
        try:
            return int(value)
        except ValueError:
            raise UsageError(
                f'invalid argument "{value}" for "--{name}" flag: it is not a whole number'
            ) from None


class Command:
    """One command.

    :param example: a command line that works as it stands, shown in the help.
    :param rest: what follows the first argument belongs to the container (``run``, ``exec``).
    :param raw: nothing is parsed but ``--help``: every word is handed on (``daemon``).
    :param failure: the exit status when the daemon refuses.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        run: Callable[[Context, Values], int | None],
        *,
        flags: Sequence[Flag] = (),
        args: Sequence[Argument] = (),
        example: str,
        rest: bool = False,
        raw: bool = False,
        failure: int = 1,
    ) -> None:
        self.name = name
        self.summary = summary
        self.run = run
        self.flags = flags
        self.args = args
        self.example = example
        self.rest = rest
        self.raw = raw
        self.failure = failure

    @property
    def usage(self) -> str:
        """The arguments as the help shows them."""
        words = []
        for one in self.args:
            word = one.metavar
            if one.most is None:
                word += f" [{one.metavar}...]" if one.least else "..."
            words.append(word if one.least else f"[{word}]")
        return " ".join(words)

    def check(self, args: Sequence[str]) -> None:
        """Check the number of arguments.

        :raises UsageError: where there are too few or too many.
        """
        least = sum(one.least for one in self.args)
        most = sum(one.most or 0 for one in self.args)
        bounded = all(one.most is not None for one in self.args)
        if len(args) >= least and (not bounded or len(args) <= most):
            return
        wanted = f"{least}" if bounded and least == most else f"at least {least}"
        if bounded and least < most:
            wanted = f"at least {least} and at most {most}" if least else f"at most {most}"
        plural = "argument" if wanted.endswith(" 1") or wanted == "1" else "arguments"
        verdict = f"requires {wanted} {plural}" if most or not bounded else "accepts no arguments"
        raise UsageError(
            f"'pannier {self.name}' {verdict}",
            code=1,
            hint=f"usage: pannier {self.name} [OPTIONS] {self.usage}".rstrip(),
        )
