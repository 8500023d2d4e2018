"""Help is there for every command, with an example that parses."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click
import pytest

from pannier.cli.clickapp import make_app
from pannier.cli.command import Command
from pannier.cli.parse import parse
from pannier.cli.registry import COMMANDS, GROUPS, load

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = [[name] for name in COMMANDS] + [
    [group, name] for group, (_, targets) in GROUPS.items() for name in targets
]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_shows_an_example(cli: Callable[..., Any], words: list[str]) -> None:
    """``--help`` ends well, on stdout, and has an example."""
    outcome = cli(*words, "--help")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "Usage: pannier" in outcome.out
    assert "Example" in outcome.out
    assert "pannier " in outcome.out.partition("Example")[2]


@pytest.mark.parametrize("group", [*GROUPS, ""])
def test_groups_list_their_commands(cli: Callable[..., Any], group: str) -> None:
    """A group alone, and with ``--help``, lists what it has."""
    for words in ([group] if group else [], [group, "--help"] if group else ["--help"]):
        outcome = cli(*words)
        assert outcome.status == 0
        for name in GROUPS[group][1] if group else COMMANDS:
            assert f"  {name} " in outcome.out
        assert "Example" in outcome.out


@pytest.mark.parametrize(
    "target",
    sorted({*COMMANDS.values(), *(one for _, group in GROUPS.values() for one in group.values())}),
)
def test_examples_parse(target: str) -> None:
    """The example's own flags and arguments are right."""
    found = load(target)
    if not isinstance(found, Command):
        assert isinstance(found, click.Command)
        return
    for part in found.example.split(" | "):
        words = shlex.split(part.removeprefix('eval "$(').removesuffix(')"'))
        if "pannier" in words:
            del words[: words.index("pannier") + 1]
            while words[0].startswith("-"):
                del words[:2]
            expected = found.name.split(" ")
            assert words[: len(expected)] == expected
            parse(found, words[len(expected) :])


def test_no_flag_is_declared_twice() -> None:
    """Each name of a command's flags means one thing."""
    for target in COMMANDS.values():
        found = load(target)
        if isinstance(found, Command):
            longs = [one.long for one in found.flags]
            shorts = [one.short for one in found.flags if one.short]
            assert len(longs) == len(set(longs)), found.name
            assert len(shorts) == len(set(shorts)), found.name


def test_click_sees_every_command() -> None:
    """The click application has the same commands, so completion offers them all."""
    app = make_app()
    context = click.Context(app)
    assert {*COMMANDS, *GROUPS} <= set(app.list_commands(context))
    assert all(app.get_command(context, name) is not None for name in COMMANDS)


def test_a_mistyped_command_gets_a_suggestion(cli: Callable[..., Any]) -> None:
    """One line of error, and the nearest name."""
    outcome = cli("rnu")
    assert outcome.status == 1
    assert outcome.err == "Error: unknown command: pannier rnu\nhint: did you mean 'pannier run'?\n"
    assert cli("volume", "lst").err.endswith("did you mean 'pannier volume list'?\n")


def test_options_before_the_command(cli: Callable[..., Any]) -> None:
    """A wrong global option and a missing value are usage errors."""
    assert cli("--bogus", "ps").status == 125
    assert "flag needs an argument" in cli("--host").err
    assert "specify only one -H" in cli("-H", "/a", "-H", "/b", "ps").err
    assert "cannot specify both --host and --context" in cli("-H", "/a", "-c", "b", "ps").err
    assert cli("-H", "gopher://x", "ps").err.startswith("Error: 'gopher://x' is not")
    assert cli("--version").out.startswith("pannier ")
