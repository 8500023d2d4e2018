"""The matcher of patterns: what it fits, by regular expressions, and that nothing holds it up."""

from __future__ import annotations

import posixpath
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pannier.build.globs import (
    ANY,
    NOT_SLASH,
    Characters,
    Folders,
    Many,
    One,
    Step,
    Text,
    ends,
    longest,
    shortest,
)
from pannier.build.ignore import IgnoreRules, match_pattern
from pannier.build.words import expand
from pannier.errors import InvalidRequest

CLASS = Characters(("a", "b"), ("z", "x"))
NO_CLASS = Characters(("a", "a"), ("/", "/"), negated=True)
STEPS: list[tuple[Step, str]] = [
    (One("a"), "a"),
    (One("/"), "/"),
    (One("\udc80"), "\udc80"),
    (One(ANY), "."),
    (One(NOT_SLASH), "[^/]"),
    (One(CLASS), "[ab]"),
    (One(NO_CLASS), "[^a/]"),
    (Many(ANY), ".*"),
    (Many(NOT_SLASH), "[^/]*"),
    (Many("a"), "a*"),
    (Folders(), "(?:.*/)?"),
]
TEXT = st.text(alphabet="ab/\n\udc80", max_size=9)


@given(st.lists(st.sampled_from(STEPS), max_size=6), TEXT)
def test_a_pattern_ends_where_its_regular_expression_does(
    steps: list[tuple[Step, str]], text: str
) -> None:
    """Each place in the text is found where, and only where, the text up to there fits."""
    expression = re.compile("".join(part for _, part in steps), re.DOTALL)
    found = ends([step for step, _ in steps], Text(text))
    expected = [end for end in range(len(text) + 1) if expression.fullmatch(text, 0, end)]
    assert [end for end in range(len(text) + 1) if found >> end & 1] == expected
    if expected:
        assert (shortest(found), longest(found)) == (expected[0], expected[-1])
    else:
        assert found == 0


@given(st.lists(st.sampled_from([*STEPS[:4], STEPS[7]]), max_size=6), TEXT)
def test_backwards_a_pattern_finds_where_it_begins(
    steps: list[tuple[Step, str]], text: str
) -> None:
    """From all places at once: what a search needs."""
    expression = re.compile("".join(part for _, part in steps), re.DOTALL)
    everywhere = (2 << len(text)) - 1
    found = ends([step for step, _ in reversed(steps)], Text(text[::-1]), everywhere)
    for begin in range(len(text) + 1):
        assert bool(found >> (len(text) - begin) & 1) is bool(expression.match(text, begin))


# What the patterns mean, said by regular expressions: right, and slow with many stars.


def translated(pattern: str, *, deep: bool) -> str | None:
    """Return the regular expression for a pattern of ``COPY`` or (*deep*) ``.dockerignore``.

    None where it is malformed.
    """
    out: list[str] = []
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if deep and rest.startswith("**"):
            length = 3 if rest.startswith("**/") else 2
            out.append("(?:.*/)?" if rest[length:] else ".*")
        elif rest.startswith("["):
            bracket = re.match(rf"\[\^?+(?:{MEMBER}(?:-{MEMBER})?)+\]", rest, re.DOTALL)
            if bracket is None:
                return None
            length = bracket.end()
            out.append(translated_class(bracket[0]))
        elif rest.startswith("\\"):
            if len(rest) == 1:
                return None
            length = 2
            out.append(re.escape(rest[1]))
        else:
            length = 1
            out.append({"*": "[^/]*", "?": "[^/]"}.get(rest[0]) or re.escape(rest[0]))
        position += length
    return "".join(out)


MEMBER = r"(?:\\.|[^\\\]-])"


def translated_class(bracket: str) -> str:
    """Return the regular expression for a class in its brackets."""
    negated = bracket.startswith("[^")
    inner = bracket[1 + negated : -1]
    found = re.findall(rf"({MEMBER})(?:-({MEMBER}))?", inner, re.DOTALL)
    ranges = [(low[-1], (high or low)[-1]) for low, high in found]
    # One that runs backwards fits nothing.
    text = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if negated:
        return f"[^/{text}]"
    return f"(?!/)[{text}]" if text else "(?!)"


PATTERN = st.text(alphabet="ab/.0*?[]^-\\", max_size=9) | st.lists(
    st.sampled_from(["a", "b", "/", ".", "?", "*", "**", "**/", r"\*", "[ab]", "[^a]", "[.-0]"]),
    max_size=7,
).map("".join)
NAME = st.text(alphabet="ab/.0*\n\udc80", max_size=9)


@given(PATTERN, NAME)
def test_patterns_of_copy_fit_what_their_regular_expressions_fit(pattern: str, name: str) -> None:
    """Every construct of Go's ``filepath.Match``, alone and together; or both refuse it."""
    expression = translated(pattern, deep=False)
    if expression is None:
        with pytest.raises(InvalidRequest):
            match_pattern(pattern, name)
        return
    expected = re.fullmatch(expression, name, re.DOTALL) is not None
    assert match_pattern(pattern, name) is expected


@given(PATTERN, NAME)
def test_rules_fit_what_their_regular_expressions_fit(pattern: str, path: str) -> None:
    """The path, or a folder that it is in; ``**`` for any number of folders."""
    line = f"a/../{pattern}"  # so that nothing in it is a comment or an exclamation
    cleaned = posixpath.normpath(line.strip()).lstrip("/")
    expression = translated(cleaned, deep=True)
    if expression is None:
        with pytest.raises(InvalidRequest):
            IgnoreRules(line)
        return
    folders = [path[:end] for end in range(1, len(path) + 1) if path[end : end + 1] in ("", "/")]
    fits = re.compile(expression, re.DOTALL).fullmatch
    expected = cleaned != "." and any(fits(folder) is not None for folder in folders)
    assert IgnoreRules(line).ignores(path) is expected


def trimmed(operator: str, expression: str, value: str) -> str:
    """Return a value without what fits at its beginning or end, by trying every length."""
    lengths = range(len(value) + 1)
    for length in reversed(lengths) if len(operator) == 2 else lengths:
        at_end = operator[0] == "%"
        part = value[len(value) - length :] if at_end else value[:length]
        if re.fullmatch(expression, part, re.DOTALL):
            return value[: len(value) - length] if at_end else value[length:]
    return value


SHELL = {
    "*": ".*",
    "?": ".",
    "a": "a",
    "b": "b",
    ".": r"\.",
    r"\*": r"\*",
    r"\/": "/",
    r"\\": r"\\",
}
WORD = st.lists(st.sampled_from(sorted(SHELL)), max_size=6)
VALUE = st.text(alphabet="ab./*\\\n", max_size=9)


@given(WORD, VALUE, st.sampled_from(["#", "##", "%", "%%"]))
def test_a_value_is_trimmed_by_what_fits_its_beginning_or_end(
    parts: list[str], value: str, operator: str
) -> None:
    """The shortest for ``#`` and ``%``, the longest for ``##`` and ``%%``."""
    expression = "".join(SHELL[part] for part in parts)
    # The pattern comes by a variable, so that a star after the operator is the pattern's.
    word = f"${{V{operator}$P}}"
    assert expand(word, {"V": value, "P": "".join(parts)}) == trimmed(operator, expression, value)


@example(["a", "*", "b"], "xabba", True)
@example(["a", "?"], "aaab", True)
@example([], "ab", True)
@example(["*"], "ab", True)
@given(WORD, VALUE, st.booleans())
def test_a_value_has_replaced_what_fits_in_it(
    parts: list[str], value: str, everywhere: bool
) -> None:
    """The first that fits, as long as can be; then the next."""
    expression = "".join(SHELL[part] for part in parts)
    found = re.compile(expression, re.DOTALL)
    # Where stars alone have taken all, Python finds nothing at the end once more; Go does not.
    once = not everywhere or (".*" in expression)
    expected = found.sub("<>", value, count=1 if once else 0)
    word = f"${{V{'//' if everywhere else '/'}$P/<>}}"
    assert expand(word, {"V": value, "P": "".join(parts)}) == expected


# Each of these would take a regular expression longer than anybody lives.
STARS = "*a" * 40 + "b"
LONG = "a" * 4000


def test_a_pattern_of_copy_with_many_stars_ends_on_a_long_name() -> None:
    """As one of a hostile Dockerfile may be."""
    assert not match_pattern(STARS, LONG)
    assert match_pattern(STARS, LONG + "b")
    assert not match_pattern("*?" * 2000 + "b", LONG)
    assert not match_pattern("*[^b]" * 800 + "b", LONG)


@pytest.mark.parametrize("rule", [STARS, "**/a" * 40 + "b", "**a" * 40 + "b", "**/*a" * 40 + "b"])
@pytest.mark.parametrize("path", [LONG, "a/" * 2000 + "a", "aa/" * 1300 + "a"])
def test_rules_with_many_stars_end_on_long_paths(rule: str, path: str) -> None:
    """As those of a hostile context may be; the daemon reads them for as long."""
    assert not IgnoreRules(rule).ignores(path)
    assert not IgnoreRules(f"{path}\n!{rule}").prunes(path)


@pytest.mark.parametrize("operator", ["#", "##", "%", "%%", "/", "//"])
def test_expansions_with_many_stars_end_on_long_values(operator: str) -> None:
    """However many: there was a limit of eight, when each took another power of the length."""
    value = "a" * 100_000
    word = "${V" + operator + "$P}"
    assert expand(word, {"V": value, "P": STARS.replace("b", "b*b")}) == value
    assert expand(word, {"V": value, "P": "?" * 500 + "b"}) == value


def test_long_values_take_short_patterns_only() -> None:
    """What would take seconds is refused."""
    with pytest.raises(InvalidRequest) as caught:
        expand("${V#$P}", {"V": "a" * 100_000, "P": "?" * 1000})
    assert caught.value.message.endswith("1000 characters, too many for a value of 100000")
    assert caught.value.hint


@pytest.mark.parametrize("word", ['"%s"', "${V#%s}", "${V/x/%s}", "${N:-%s}"])
def test_words_that_multiply_themselves_are_stopped_everywhere(word: str) -> None:
    """In quotes and in patterns as well: before all of it is held at once."""
    with pytest.raises(InvalidRequest, match="comes to more than"):
        expand(word % ("$A" * 200), {"A": "x" * 100_000, "V": "v"})
