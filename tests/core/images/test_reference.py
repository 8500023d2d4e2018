"""References: what is a name, and what it means."""

from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.errors import InvalidRequest, PannierError
from pannier.images.filters import reference_matches
from pannier.images.reference import Reference, parse_any, parse_reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("docker.io/user/app:x", "docker.io/user/app:x", "user/app:x"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app"),
        ("a.b/c/d/e:f", "a.b/c/d/e:f", "a.b/c/d/e:f"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("[2001:db8::1]/app", "[2001:db8::1]/app", "[2001:db8::1]/app"),
        (
            "127.0.0.1:80/a__b/c-d.e---f",
            "127.0.0.1:80/a__b/c-d.e---f",
            "127.0.0.1:80/a__b/c-d.e---f",
        ),
        ("Upper/app", "Upper/app", "Upper/app"),
        (f"a@sha256:{HEX}", f"docker.io/library/a@sha256:{HEX}", f"a@sha256:{HEX}"),
        (f"a:t@sha256:{HEX}", f"docker.io/library/a:t@sha256:{HEX}", f"a:t@sha256:{HEX}"),
        ("a:_", "docker.io/library/a:_", "a:_"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("a" * 63, "docker.io/library/" + "a" * 63, "a" * 63),
        ("sha256:abc", "docker.io/library/sha256:abc", "sha256:abc"),
    ],
)
def test_names_are_made_whole_and_familiar_again(text: str, whole: str, familiar: str) -> None:
    """The whole form names the registry; the familiar one leaves Docker's out."""
    reference = parse_reference(text)
    assert str(reference) == whole
    assert reference.familiar == familiar
    assert parse_reference(whole) == reference
    assert parse_reference(familiar) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (" ", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a@", "invalid reference format"),
        ("a@sha256:abc", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a-", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a:.b", "invalid reference format"),
        ("a:" + "b" * 129, "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("a:b\n", "invalid reference format"),
        ("é", "invalid reference format"),
        ("a:é", "invalid reference format"),
        ("../a", "invalid reference format"),
        ("a" * 5000, "invalid reference format"),
        ("http://a/b", "invalid reference format"),
        ("[::1/a", "invalid reference format"),
        ("a.-b/c", "invalid reference format"),
        ("localhost:x/a", "invalid reference format"),
        ("A", "invalid reference format: repository name (library/A) must be lowercase"),
        ("user/App:1", "invalid reference format: repository name (user/App) must be lowercase"),
        ("a/" * 127 + "abc", "repository name must not be more than 255 characters"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        (f"a@sha256:{HEX[:32]}", "invalid checksum digest length"),
        (f"a@sha256:{HEX.upper()}", "invalid checksum digest format"),
        (f"a@md5:{HEX[:32]}", "unsupported digest algorithm"),
    ],
)
def test_malformed_names_are_refused_in_dockers_words(text: str, message: str) -> None:
    """Each with a hint."""
    with pytest.raises(InvalidRequest) as caught:
        parse_reference(text)
    assert caught.value.message.startswith(message)
    assert caught.value.hint


def test_an_id_is_told_from_a_name() -> None:
    """With or without its algorithm."""
    assert parse_any(HEX) == f"sha256:{HEX}"
    assert parse_any(f"sha256:{HEX}") == f"sha256:{HEX}"
    assert parse_any("a") == Reference("docker.io", "library/a")


def test_latest_is_only_added_to_a_bare_name() -> None:
    """A digest needs no tag."""
    assert parse_reference("a").with_default_tag().tag == "latest"
    assert parse_reference("a:b").with_default_tag().tag == "b"
    assert parse_reference(f"a@sha256:{HEX}").with_default_tag().tag is None


component = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
separated = st.lists(component, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([".", "_", "__", "-", "---"]).map(lambda by: by.join(parts))
)
paths = st.lists(separated, min_size=1, max_size=4).map("/".join)
domains = st.sampled_from(
    ["docker.io", "localhost", "localhost:5000", "a.example:80", "[::1]:5000"]
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.just(f"sha256:{HEX}")


@given(domains, paths, st.none() | tags, st.none() | digests)
def test_every_reference_survives_being_written(
    domain: str, path: str, tag: str | None, digest: str | None
) -> None:
    """In its whole and in its familiar form."""
    reference = parse_reference(f"{domain}/{path}")
    reference = Reference(reference.domain, reference.path, tag, digest)
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference


@given(st.text(max_size=60) | st.text("aA0:/@.-_[]", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Never another error; and what is parsed means the same when written."""
    try:
        reference = parse_any(text)
    except PannierError:
        return
    if isinstance(reference, Reference):
        assert parse_reference(str(reference)) == reference
        assert parse_reference(reference.familiar) == reference


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a", "a:1", True),
        ("a:1", "a:1", True),
        ("a:2", "a:1", False),
        ("*", "a:1", True),
        ("*", "a/b:1", False),
        ("*/*", "a/b:1", True),
        ("a*c", "abbbc:1", True),
        ("a*b*c", "axbxbxc:1", True),
        ("a*b*c", "axbxbxd:1", False),
        ("a?c", "abc:1", True),
        ("a?c", "a/c:1", False),
        ("[ab]c", "bc:1", True),
        ("[^ab]c", "bc:1", False),
        ("[a-c]x", "bx:1", True),
        ("[c-a]x", "bx:1", False),
        ("[^c-a]x", "bx:1", True),
        (r"a\*", "a:1", False),
        ("a.b/*:[0-9]", "a.b/x:7", True),
        ("*" * 40 + "x", "a" * 200 + ":1", False),
        ("*a" * 30 + "x", "a" * 200 + ":1", False),
    ],
)
def test_patterns_match_like_paths(pattern: str, name: str, *, matches: bool) -> None:
    """Stars do not pass slashes, and cost no more for being many."""
    assert reference_matches(pattern, name) is matches


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-", "a\\", "[-a]", "[\\"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    """Not taken as text."""
    with pytest.raises(InvalidRequest, match="syntax error in pattern"):
        reference_matches(pattern, "a:1")


@given(st.text("*?[]^-\\ab/:", max_size=20), st.sampled_from(["ab:1", "a/b/ab:b"]))
def test_any_pattern_is_matched_or_refused(pattern: str, name: str) -> None:
    """Never another error."""
    with contextlib.suppress(InvalidRequest):
        assert reference_matches(pattern, name) in (True, False)
