"""Command lines are parsed as the docker client parses them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.cli.command import Command, Flag, UsageError, Values, arg, flag, many, text
from pannier.cli.parse import HelpAsked, parse

FLAGS = [
    flag("-i,--interactive", "i"),
    flag("-t,--tty", "t"),
    flag("--rm", "rm"),
    flag("--proxy", "p", default="true"),
    many("-e,--env", "env"),
    text("-w,--workdir", "w", default="/"),
    Flag("optional", "--trace", "trace"),
]


def words(*given: str, rest: bool = True, least: int = 1) -> Values:
    """Parse a command line of a made-up command."""
    command = Command(
        "x",
        "x",
        lambda *_: 0,
        flags=FLAGS,
        args=[arg("A", least=least), arg("B", least=0, most=None)],
        example="pannier x",
        rest=rest,
    )
    return parse(command, given)


def test_switches_combine() -> None:
    """``-it`` is ``-i -t``, and the last of them may take a value."""
    values = words("-itw", "/x", "-eA=1", "-e=B=2", "image")
    assert values.on("interactive")
    assert values.on("tty")
    assert values.text("workdir") == "/x"
    assert values.many("env") == ["A=1", "B=2"]


def test_switches_take_values() -> None:
    """``--rm=false`` and ``-i=false`` turn off what may be on."""
    values = words("--rm", "--rm=false", "-i=0", "--proxy=F", "image")
    assert not values.on("rm")
    assert not values.on("interactive")
    assert not values.on("proxy")
    assert values.given("rm")


def test_defaults_hold_until_something_is_given() -> None:
    """A default is a value, but it was not given."""
    values = words("image")
    assert values.on("proxy")
    assert values.text("workdir") == "/"
    assert not values.given("workdir")


def test_the_command_of_a_container_is_its_own() -> None:
    """What follows the image is not parsed."""
    assert words("image", "ls", "-la", "--rm", "--").args == ["image", "ls", "-la", "--rm", "--"]


def test_other_commands_take_options_anywhere() -> None:
    """Options may follow arguments, up to ``--``."""
    values = words("a", "--rm", "b", "--", "-t", rest=False)
    assert values.on("rm")
    assert values.args == ["a", "b", "-t"]


def test_an_optional_value_needs_its_equals_sign() -> None:
    """``--trace image`` has no file; ``--trace=f image`` has one."""
    assert words("--trace", "image").args == ["image"]
    assert words("--trace", "image").given("trace")
    assert words("--trace=f", "image").text("trace") == "f"


def test_a_dash_alone_is_an_argument() -> None:
    """``-`` is stdin."""
    assert words("-").args == ["-"]


@pytest.mark.parametrize(
    ("given", "message", "code"),
    [
        (["--bogus", "x"], "unknown flag: --bogus", 125),
        (["-iz", "x"], "unknown shorthand flag: 'z' in -iz", 125),
        (["--workdir"], "flag needs an argument: --workdir", 125),
        (["-iw"], "flag needs an argument: 'w' in -iw", 125),
        (["--rm=perhaps", "x"], 'invalid argument "perhaps" for "--rm" flag', 125),
        ([], "'pannier x' requires at least 1 argument", 1),
    ],
)
def test_mistakes_are_named(given: list[str], message: str, code: int) -> None:
    """The message is the docker client's, and so is the status."""
    with pytest.raises(UsageError) as caught:
        words(*given)
    assert message in str(caught.value)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("given", [["--help"], ["-ih"], ["-h"]])
def test_help_is_help(given: list[str]) -> None:
    """``--help`` wins where it stands among the options."""
    with pytest.raises(HelpAsked):
        words(*given)


@given(st.lists(st.text(max_size=6), max_size=6))
def test_any_words_are_parsed_or_refused(given: list[str]) -> None:
    """No command line breaks the parser."""
    try:
        words(*given, rest=False, least=0)
    except (UsageError, HelpAsked):
        return
