"""A Dockerfile's words: splitting, quotes, variables with their modifiers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.build.words import expand, expand_words, split_words, unquote
from pannier.errors import InvalidRequest

VARIABLES = {
    "A": "one",
    "EMPTY": "",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "FILE": "/a/b/archive.tar.gz",
    "SPACES": "x  y z",
    "STARS": "a*b*c",
    "GREETING": "hello hello",
    "dotted": "1.2.3",
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("plain", "plain"),
        ("$A", "one"),
        ("${A}", "one"),
        ("$A$A", "oneone"),
        ("$A.x", "one.x"),
        ("$Ax", ""),
        ("${A}x", "onex"),
        ("$MISSING", ""),
        ("$", "$"),
        ("a$", "a$"),
        ("$/x", "$/x"),
        (r"\$A", "$A"),
        (r"\${A}", "${A}"),
        (r"a\b", "ab"),
        (r"a\\b", r"a\b"),
        ("'$A'", "$A"),
        ('"$A"', "one"),
        (r'"\$A"', "$A"),
        (r'"a\"b"', 'a"b'),
        (r'"a\nb"', r"a\nb"),
        (r'"a\\b"', r"a\b"),
        (r"'a\b'", r"a\b"),
        ("'a'\"b\"c", "abc"),
        ('"it\'s"', "it's"),
        ("${A:-x}", "one"),
        ("${MISSING:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${MISSING-x}", "x"),
        ("${A:+x}", "x"),
        ("${MISSING:+x}", ""),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${MISSING+x}", ""),
        ("${A:?must}", "one"),
        ("${EMPTY?must}", ""),
        ("${MISSING:-$A}", "one"),
        ("${MISSING:-${A}}", "one"),
        ("${MISSING:-${ALSO:-deep}}", "deep"),
        ("${MISSING:-}", ""),
        ("${FILE#*/}", "a/b/archive.tar.gz"),
        ("${FILE##*/}", "archive.tar.gz"),
        ("${FILE%.*}", "/a/b/archive.tar"),
        ("${FILE%%.*}", "/a/b/archive"),
        ("${FILE%/*}", "/a/b"),
        ("${FILE#nothing}", "/a/b/archive.tar.gz"),
        ("${dotted%.*}", "1.2"),
        ("${dotted%%.*}", "1"),
        ("${dotted#?.}", "2.3"),
        (r"${STARS#a\*}", "b*c"),
        ("${STARS##*}", ""),
        ("${STARS%%*}", ""),
        ("${STARS%*}", "a*b*c"),
        ("${STARS#*}", "a*b*c"),
        ("${GREETING/hello/bye}", "bye hello"),
        ("${GREETING//hello/bye}", "bye bye"),
        ("${GREETING/hello}", " hello"),
        ("${GREETING//l?/X}", "heXo heXo"),
        (r"${FILE/\/a\//\/}", "/b/archive.tar.gz"),
        ("${PATH//:/ }", "/usr/local/bin /usr/bin /bin"),
        ("${MISSING/a/b}", ""),
        ("${MISSING#a}", ""),
    ],
)
def test_variables_are_replaced_as_docker_does(word: str, value: str) -> None:
    """Each modifier, with and without a value."""
    assert expand(word, VARIABLES) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'open", "single-quote"),
        ('"open', "double-quote"),
        ("${A", "}"),
        ("${}", "bad substitution"),
        ("${A!x}", "unsupported modifier"),
        ("${A:=x}", "unsupported modifier"),
        ("${A:", "}"),
        ("${MISSING:?give it}", "MISSING: give it"),
        ("${MISSING?}", "MISSING: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
    ],
)
def test_what_is_malformed_is_refused(word: str, message: str) -> None:
    """With what stood in the way, and a hint."""
    with pytest.raises(InvalidRequest) as caught:
        expand(word, VARIABLES)
    assert message in caught.value.message
    assert caught.value.hint


def test_another_escape_character_leaves_backslashes_alone() -> None:
    """The directive ``escape`` of Windows' Dockerfiles."""
    assert expand(r"C:\dir\`$A", VARIABLES, "`") == r"C:\dir\$A"
    assert split_words(r"a\ b c` d", "`") == ["a\\", "b", "c` d"]


def test_words_end_at_white_space_that_nothing_protects() -> None:
    """Quotes and escapes stay in the words."""
    assert split_words(r"""a "b c" d\ e 'f g'h""") == ["a", '"b c"', r"d\ e", "'f g'h"]
    assert split_words("  ") == []


def test_a_variable_outside_quotes_is_split_into_words() -> None:
    """EXPOSE takes several ports from one variable."""
    assert expand_words('$SPACES "$SPACES"', VARIABLES) == ["x", "y", "z", "x  y z"]
    assert expand_words("$EMPTY a", VARIABLES) == ["a"]


def test_unquoting_leaves_variables_alone() -> None:
    """A heredoc's name is never expanded."""
    assert unquote("'$A'\"b\"$C") == "$Ab$C"


def test_a_word_that_multiplies_itself_is_stopped() -> None:
    """Variables cannot make a word of gigabytes."""
    with pytest.raises(InvalidRequest):
        expand("$A" * 200, {"A": "x" * 100_000})


@given(st.text(alphabet="$aA{}:-+?#%/\\'\"* b\n`", max_size=60))
def test_any_word_is_expanded_or_refused(word: str) -> None:
    """Never another error, whatever the word."""
    for function in (expand, expand_words):
        with contextlib.suppress(InvalidRequest):
            function(word, {"a": "v*l", "A": "", "b": "\\"})
    for words in (split_words(word), split_words(word, "`")):
        assert all(words)
