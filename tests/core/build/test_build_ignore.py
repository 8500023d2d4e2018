""".dockerignore and the patterns of COPY: Go's rules."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.build.ignore import IgnoreRules, match_pattern
from pannier.errors import InvalidRequest

# The cases of Go's own test of path/filepath.Match.
MATCHES = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "abc", True),
    ("a*", "ab/c", False),
    ("a*/b", "abc/b", True),
    ("a*/b", "a/c/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("a[^a][^a][^a]b", "a☺b", False),
    ("[a-ζ]*", "α", True),  # noqa: RUF001 - the Greek letter of Go's test
    ("*[a-ζ]", "A", False),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "-", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "x", True),
    ("[\\-x]", "-", True),
    ("[\\-x]", "a", False),
    ("*x", "xxx", True),
]
BAD = ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a["]


@pytest.mark.parametrize(("pattern", "name", "fits"), MATCHES)
def test_patterns_fit_as_in_go(pattern: str, name: str, fits: bool) -> None:
    """The table of Go's own test."""
    assert match_pattern(pattern, name) is fits


@pytest.mark.parametrize("pattern", BAD)
def test_bad_patterns_are_refused(pattern: str) -> None:
    """Those that Go refuses."""
    with pytest.raises(InvalidRequest):
        match_pattern(pattern, "a")


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [
        ("*.log", "a.log", True),
        ("*.log", "dir/a.log", False),
        ("**/*.log", "dir/sub/a.log", True),
        ("**/*.log", "a.log", True),
        ("dir", "dir/sub/file", True),
        ("dir/", "dir/file", True),
        ("/dir", "dir/file", True),
        ("./dir", "dir/file", True),
        ("dir/../other", "other/x", True),
        ("dir/*", "dir/file", True),
        ("dir/*", "dir", False),
        ("dir/**", "dir/a/b/c", True),
        ("dir/**", "dir", False),
        ("**", "anything/at/all", True),
        ("**/node_modules", "a/b/node_modules/x", True),
        ("**/node_modules", "node_modules", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "a/b/zz", False),
        ("a**", "ab/c", True),
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README.md", "other.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("*\n!src", "src/main.c", False),
        ("*\n!src\nsrc/*.o", "src/main.o", True),
        ("dir\n!dir/keep", "dir/keep/file", False),
        ("dir\n!dir/keep", "dir/other", True),
        ("# comment\n\n  spaced  ", "spaced", True),
        (" # no comment", "# no comment", True),
        ("\ufeffa", "a", True),
        ("a\\#b", "a#b", True),
        ("[ab].txt", "a.txt", True),
        ("file.txt", "file_txt", False),
        ("a+b", "a+b", True),
        ("a$", "a$", True),
        (".", "a", False),
        ("/", "a", False),
        ("a\r\nb", "b", True),
    ],
)
def test_paths_are_ignored_as_docker_does(text: str, path: str, ignored: bool) -> None:
    """Folders take what is in them along, the last rule that fits decides."""
    assert IgnoreRules(text).ignores(path) is ignored


def test_a_lone_exclamation_mark_is_refused_with_its_line() -> None:
    """Docker's words."""
    with pytest.raises(InvalidRequest, match=r'\.dockerignore:2: illegal exclusion pattern: "!"'):
        IgnoreRules("a\n!")


@pytest.mark.parametrize(
    ("text", "folder", "prunes"),
    [
        ("dir", "dir", True),
        ("dir\n!dir/keep", "dir", False),
        ("dir\n!dir/keep", "dir/other", True),
        ("dir\n!other", "dir", True),
        ("*\n!**/x", "dir", False),
        ("*\n!src/deep/file", "src", False),
        ("*\n!src/deep/file", "lib", True),
    ],
)
def test_folders_are_left_unread_where_no_rule_reaches_into_them(
    text: str, folder: str, prunes: bool
) -> None:
    """A node_modules is not walked for nothing, and nothing is missed."""
    assert IgnoreRules(text).prunes(folder) is prunes


PATTERN = st.text(alphabet="ab*?[]^-\\!/.# \n", max_size=20)
PATH = st.lists(st.text(alphabet="ab.-", min_size=1, max_size=3), min_size=1, max_size=4)


@given(PATTERN, PATH.map("/".join))
def test_any_rules_decide_or_are_refused(text: str, path: str) -> None:
    """Never another error; and what a pruned folder holds is ignored."""
    with contextlib.suppress(InvalidRequest):
        rules = IgnoreRules(text)
        ignored = rules.ignores(path)
        head = path.rpartition("/")[0]
        if head and rules.ignores(head) and rules.prunes(head):
            assert ignored
