"""The guide to images and registries says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from pannier.cli.registry import COMMANDS, load
from pannier.config import parse

GUIDE = Path(__file__).parents[2] / "docs" / "images.md"


def test_the_settings_are_ones() -> None:
    """Every table and key of the example is understood."""
    match = re.search(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert match is not None
    config = parse(match[1])
    assert config.registry["docker.io"].mirrors == ("https://mirror.example.com",)
    assert config.registry["old.example:5000"].insecure
    assert config.registries.parallel == 3


def test_the_commands_and_flags_exist() -> None:
    """Every command line of the examples."""
    lines = re.findall(r"(?:\$|\|) pannier (\w[\w-]*)(.*)", GUIDE.read_text())
    assert len(lines) > 8
    for name, rest in lines:
        command = load(COMMANDS[name])
        known = {flag.long for flag in command.flags}  # type: ignore[attr-defined]  # a Command
        assert set(re.findall(r"--([a-z-]+)", rest)) <= known, name
