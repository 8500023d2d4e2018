"""DNS messages: what is read from a query and what is written into an answer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pannier.dns.answers import TTL, resolve
from pannier.dns.message import (
    AAAA,
    ANY,
    FORMAT_ERROR,
    NAME_ERROR,
    NOT_IMPLEMENTED,
    PTR,
    REFUSED,
    A,
    BadQuery,
    Record,
    answer,
    code_of,
    echoes,
    failure,
    is_truncated,
    parse_query,
)
from support.dns import FakeZone, addresses_in, names_in, query

ZONE = FakeZone(
    {"db": ["172.20.0.2"], "web": ["172.20.0.3", "172.20.0.4"], "six": ["fd00::5"]}, "172.20.0.0/16"
)


def test_a_query_is_read() -> None:
    """Its name in lower case, its type, and how much the client takes."""
    found = parse_query(query("Db.Example.ORG", AAAA, id=7))
    assert (found.id, found.name, found.type) == (7, "db.example.org", AAAA)
    assert (found.size, found.extended) == (512, False)
    extended = parse_query(query("db", A, size=1232))
    assert (extended.size, extended.extended) == (1232, True)
    assert parse_query(query("db", A, size=100)).size == 512


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (query("db", A, flags=0x8000), None),
        (query("db", A, flags=0x2000), NOT_IMPLEMENTED),
        (query("db", A)[:-1], FORMAT_ERROR),
        (query("db", A)[:14], FORMAT_ERROR),
        (query("db", A, kind=3), REFUSED),
        (struct.pack(">HHHHHH", 1, 0, 2, 0, 0, 0) + query("db", A)[12:], FORMAT_ERROR),
        (struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", FORMAT_ERROR),
        (query(".".join(["x" * 60] * 5), A), FORMAT_ERROR),
    ],
)
def test_what_is_no_query_is_refused(data: bytes, code: int | None) -> None:
    """With the code that says why; an answer, or half a header, is never answered."""
    with pytest.raises(BadQuery) as caught:
        parse_query(data)
    assert caught.value.code == code


@given(st.binary(max_size=600))
@example(struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 65535) + b"\1a\0\0\1\0\1" + b"\xc0\x0c" * 200)
@example(query("db", A) + b"\xc0\xff" * 40)
def test_arbitrary_bytes_are_answered_or_refused(data: bytes) -> None:
    """Nothing else is raised, nothing goes round in circles, and an answer repeats the number."""
    try:
        parse_query(data)
    except BadQuery as error:
        refused = error.code
    else:
        refused = -1  # not at all
    if refused is None:
        return
    if refused >= 0:
        assert failure(data, refused)[:2] == data[:2]
        return
    found = parse_query(data)
    response = resolve(found, ZONE, found.size)
    assert response is None or response[:2] == data[:2]


@given(st.binary(max_size=200), st.integers(0, 65535))
def test_arbitrary_responses_are_judged(data: bytes, id: int) -> None:
    """Whatever a server, or a forger, sends."""
    if echoes(parse_query(query("db", A)), id, data):
        assert struct.unpack_from(">H", data)[0] == id


def test_an_answer_has_the_addresses_of_the_type_asked_for() -> None:
    """All of them, in an order that changes, and kept only shortly."""
    orders = set()
    for _ in range(60):
        response = resolve(parse_query(query("web", A, id=3)), ZONE)
        assert response is not None
        assert response[:2] == b"\0\3"
        orders.add(tuple(addresses_in(response)))
    assert orders == {("172.20.0.3", "172.20.0.4"), ("172.20.0.4", "172.20.0.3")}
    assert TTL < 30
    six = resolve(parse_query(query("six", AAAA)), ZONE)
    assert six is not None
    assert addresses_in(six) == ["fd00::5"]
    any_type = resolve(parse_query(query("DB", ANY)), ZONE)
    assert any_type is not None
    assert addresses_in(any_type) == ["172.20.0.2"]


@pytest.mark.parametrize(("name", "type"), [("db", AAAA), ("six", A), ("db", 15), ("db", 16)])
def test_a_name_without_such_a_record_is_no_error(name: str, type: int) -> None:
    """No data, and no forwarding: another server would say that the name does not exist."""
    response = resolve(parse_query(query(name, type)), ZONE)
    assert response is not None
    assert code_of(response) == 0
    assert addresses_in(response) == []


def test_what_is_not_known_is_left_to_others() -> None:
    """Names, and addresses of other networks."""
    for name, type in (("example.org", A), ("1.1.168.192.in-addr.arpa", PTR), ("x.arpa", PTR)):
        assert resolve(parse_query(query(name, type)), ZONE) is None


def test_reverse_look_ups() -> None:
    """The container's name; for a free address of the network, that there is none."""
    response = resolve(parse_query(query("2.0.20.172.in-addr.arpa", PTR)), ZONE)
    assert response is not None
    assert names_in(response) == ["db.lan"]
    missing = resolve(parse_query(query("9.0.20.172.in-addr.arpa", PTR)), ZONE)
    assert missing is not None
    assert code_of(missing) == NAME_ERROR
    nibbles = ".".join(reversed("fd000000000000000000000000000005"))
    six = resolve(parse_query(query(f"{nibbles}.ip6.arpa", PTR)), ZONE)
    assert six is not None
    assert names_in(six) == ["six.lan"]


def test_an_answer_that_is_too_large_says_so() -> None:
    """What fits is there; over TCP everything is."""
    found = parse_query(query("many", A, size=600))
    records = [Record.address(f"10.0.0.{number}", TTL) for number in range(100)]
    short = answer(found, records, limit=found.size)
    assert len(short) <= 600
    assert is_truncated(short)
    assert 0 < len(addresses_in(short)) < 100
    whole = answer(found, records)
    assert not is_truncated(whole)
    assert len(addresses_in(whole)) == 100


def test_a_response_belongs_to_its_query() -> None:
    """By number and question, in whatever case; an error may come without the question."""
    found = parse_query(query("db", A, id=5))
    response = answer(found, [])
    assert echoes(found, 5, response)
    assert echoes(found, 5, response.replace(b"\2db", b"\2DB"))
    assert not echoes(found, 6, response)
    assert not echoes(found, 5, answer(parse_query(query("xx", A, id=5)), []))
    assert not echoes(found, 5, query("db", A, id=5))
    assert echoes(found, 5, failure(query("db", A, id=5), REFUSED))
