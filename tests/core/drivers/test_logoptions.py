"""The options that log drivers share."""

from __future__ import annotations

import re

import pytest

from pannier.drivers.log import LogForm, LogSource
from pannier.drivers.logoptions import (
    attributes,
    check_tag,
    expand_tag,
    flag,
    refuse_unknown,
    rotation,
)
from pannier.errors import InvalidRequest

SOURCE = LogSource(
    id="0123456789abcdef" * 4,
    name="web",
    image_id="sha256:" + "fedcba9876543210" * 4,
    image_name="shop/web:2",
    args=("serve", "-v"),
    host="here",
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("{{.ID}}", "0123456789ab"),
        ("{{ .Name }}/{{.ImageName}}", "web/shop/web:2"),
        ("{{.ImageID}} {{.Command}}", "fedcba987654 serve -v"),
        ("{{.FullID}}", SOURCE.id),
        ("{{.ImageFullID}}", SOURCE.image_id),
        ("{{.DaemonName}} on {{.Hostname}}", "pannier on here"),
        ("100% {plain}", "100% {plain}"),
    ],
)
def test_tags(template: str, text: str) -> None:
    """Docker's words are replaced, with or without blanks; all else stays."""
    assert expand_tag(template, SOURCE) == text


@pytest.mark.parametrize("template", ["{{.Nme}}", "{{Name}}", "{{}}", "{{.ID | upper}}"])
def test_tags_that_mean_nothing(template: str) -> None:
    """They are refused, with what there is as a hint."""
    with pytest.raises(InvalidRequest, match=re.escape(template)) as error:
        check_tag(template)
    assert "{{.Name}}" in str(error.value.hint)


def test_attributes() -> None:
    """Labels and variables are named, or found by an expression; the tag is one more."""
    source = LogSource("c" * 64, "web", environment=("A=1", "AB=2"), labels={"a.x": "3", "b": "4"})
    assert attributes({}, source) == {}
    assert attributes({"env": "A, none", "labels-regex": r"^a\."}, source) == {"A": "1", "a.x": "3"}
    assert attributes({"env-regex": "B", "tag": "{{.Name}}"}, source) == {"AB": "2", "tag": "web"}
    assert attributes({"tag": "{{upper .Name}}"}, source) == {"tag": "{{upper .Name}}"}
    with pytest.raises(InvalidRequest, match="invalid log opt env-regex: '\\('"):
        attributes({"env-regex": "("}, source)
    hostile = LogSource("", "", labels={"a" * 5000 + "!": ""})
    assert attributes({"labels-regex": "^(a+)+$"}, hostile) == {}


def test_unknown_options() -> None:
    """They are refused in Docker's words."""
    refuse_unknown("far", {"a": "1"}, ["a", "b"])
    with pytest.raises(InvalidRequest, match="unknown log opt 'c' for far log driver"):
        refuse_unknown("far", {"a": "1", "c": "2"}, ["a", "b"])


def test_flags() -> None:
    """As Go reads them."""
    assert flag({"x": "TRUE"}, "x")
    assert not flag({"x": "0"}, "x", default=True)
    assert flag({}, "x", default=True)
    with pytest.raises(InvalidRequest, match="invalid value for log opt x: 'maybe'"):
        flag({"x": "maybe"}, "x")


def test_rotation_with_a_prefix() -> None:
    """The options of a cache are its own; the defaults hold where they do not say."""
    options = {"max-size": "1m", "cache-max-file": "2"}
    assert rotation(options, "20m", 5, "cache-") == LogForm(20 << 20, 2)
    with pytest.raises(InvalidRequest, match="cache-max-size must be a positive number"):
        rotation({"cache-max-size": "0"}, prefix="cache-")


@pytest.mark.parametrize("text", ["{{" + " " * 100_000, "{{" * 100_000, "}}" * 100_000])
def test_tags_of_any_text_are_read_at_once(text: str) -> None:
    """Braces that nothing closes are text, however much of it."""
    assert expand_tag(text, SOURCE) == text
