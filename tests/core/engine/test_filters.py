"""Patterns in filters: Docker's syntax, and no pattern that takes long."""

from __future__ import annotations

import pytest

from pannier.engine.filters import patterns


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "web", True),
        ("eb", "web", True),
        ("web", "we", False),
        ("^we", "web", True),
        ("^eb", "web", False),
        ("w.b$", "web", True),
        ("cat|dog", "a dog", True),
        ("(?i)WEB", "web", True),
        (r"\pL\p{^L}", "a1", True),
        ("[[:digit:]]", "web", False),
        ("a{,2}", "a{,2}", True),
        ("é", "café", True),
    ],
)
def test_a_pattern_is_searched_for(pattern: str, text: str, matches: bool) -> None:
    """It is read as Go reads it, and may match anywhere."""
    assert patterns({"name": (pattern,)}, "name")(text) is matches


@pytest.mark.parametrize("pattern", ["(", "[a", "*", r"(a)\1", "(?=a)", "a{1001}", "\\"])
def test_what_is_no_pattern_matches_itself_alone(pattern: str) -> None:
    """As with Docker; look-around and back references are none in its syntax."""
    passes = patterns({"name": (pattern,)}, "name")
    assert passes(pattern)
    assert not passes("aa")


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+!", "(.*)*(.*)*(.*)*x", "((a?){30}){30}b"])
def test_a_hostile_pattern_is_followed_in_linear_time(pattern: str) -> None:
    """Matchers that go back would not end within the life of a computer."""
    assert not patterns({"name": (pattern,)}, "name")("a" * 5000 + "!" * (pattern[-1] != "!"))


def test_several_patterns_and_none() -> None:
    """One is enough; without the filter everything passes."""
    passes = patterns({"name": ("^a", "b$", "(")}, "name")
    assert [text for text in ("ax", "xb", "(", "x") if passes(text)] == ["ax", "xb", "("]
    assert patterns({}, "name")("anything")
