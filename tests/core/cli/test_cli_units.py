"""Sizes, durations and times are read and written as the docker client does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.cli.units import (
    ago,
    duration,
    human_binary,
    human_duration,
    human_size,
    parse_duration,
    parse_size,
    parse_time,
    short_id,
)
from pannier.errors import InvalidRequest

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2K", 2048),
        ("2kb", 2048),
        ("3 MiB", 3 << 20),
        ("1tb", 1 << 40),
        ("5b", 5),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """Units are powers of 1024, whatever their spelling."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "64q", "-1", "1.2.3", "64mm", "x64", "bb", "1e3", "1_0"])
def test_other_sizes_are_refused(text: str) -> None:
    """Everything else is an error with an example."""
    with pytest.raises(InvalidRequest) as caught:
        parse_size(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1982000, "1.982MB"), (4256789, "4.257MB"), (999999, "1000kB")],
)
def test_sizes_are_written(size: int, text: str) -> None:
    """Powers of 1000, four digits."""
    assert human_size(size) == text


def test_sizes_with_fewer_digits_and_in_binary() -> None:
    """Listings show three digits; memory is shown in powers of 1024."""
    assert human_size(1982000, 3) == "1.98MB"
    assert human_size(999_999, 3) == "1000kB"
    assert human_binary(8170012672) == "7.609GiB"
    assert human_binary(0) == "0B"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (MINUTE, "About a minute"),
        (119, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (2 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    """The words, and where one gives way to the next."""
    assert human_duration(seconds) == text


def test_ago() -> None:
    """A moment is so long ago; none is N/A."""
    assert ago(1000, 1000 + 2 * HOUR) == "2 hours ago"
    assert ago(0) == "N/A"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("500ms", 5 * 10**8),
        ("1us", 1000),
        ("1µs", 1000),
        ("-2s", -2 * 10**9),
        ("1h2m3s4ms", 3723004 * 10**6),
    ],
)
def test_durations_are_read(text: str, nanoseconds: int) -> None:
    """Go's form of a duration."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", "-", "1x", "1s2", "1.2.3s", ".s", "1 s"])
def test_other_durations_are_refused(text: str) -> None:
    """A number without a unit is no duration."""
    with pytest.raises(InvalidRequest):
        parse_duration(text)


@given(st.integers(min_value=-(10**15), max_value=10**15).map(lambda n: n * 1000))
def test_durations_round_trip(nanoseconds: int) -> None:
    """What is written is read back, to a float's precision."""
    assert parse_duration(duration(nanoseconds)) == pytest.approx(nanoseconds, rel=1e-9)


def test_durations_are_written_as_go_does() -> None:
    """Units that are not needed are left out."""
    found = [duration(one * 10**6) for one in (0, 500, 1500, 90_000, 3_600_000)]
    assert found == ["0s", "500ms", "1.5s", "1m30s", "1h0m0s"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("1970-01-01T01:01:00.250+01:00", 60.25),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
        ("nonsense", 0),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    """RFC 3339 as the API writes it; Go's zero is none."""
    assert parse_time(text) == seconds


def test_ids_are_shortened() -> None:
    """Twelve characters, without the algorithm."""
    assert short_id("sha256:" + "ab" * 32) == "ab" * 6
