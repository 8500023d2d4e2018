"""Answers to every call of a single host's API beside those of a dockerd 20.10, field by field."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

import pytest

from support.answers import ASKS, Shapes, answers
from support.asking import UNASKED, Ask
from support.daemon import Daemon, leftovers
from support.dockerd import running_dockerd, why_not
from support.swagger import specification

GOLDEN = Path(__file__).parent / "golden"
RECORDED: Shapes = json.loads((GOLDEN / "answers_20_10.json").read_text())
DIFFERENCES: dict[str, str] = json.loads((GOLDEN / "answers_differences.json").read_text())
"""What differs, and why: patterns of call and field, in which only a star has a meaning."""

CHANCE = (
    "*stats* $.blkio_stats.*_recursive[]*",  # whether anything was read from a disk
    "inspect of a healthy one $.ExecIDs[]",  # whether a probe runs just then
    "inspect of an ill one $.ExecIDs[]",
)
"""What is there or not, from one run to the next. Where both have it, it is to be the same."""

# Where a list or map is empty, Go answers null, [] or {} by chance; clients take each.
EMPTY = {"NoneType", "list", "dict"}


@pytest.fixture(scope="module")
def ours() -> Shapes:
    """Return the shapes of the answers of a daemon of its own."""
    daemon = Daemon()
    try:
        daemon.start()
        assert daemon.process is not None
        found = answers(str(daemon.socket), daemon.process.pid)
    finally:
        daemon.close()
    assert leftovers(daemon) == []
    return found


def _differences(ours: Shapes, theirs: Shapes) -> list[tuple[str, str]]:
    """Return each difference: the call with the field, and what both have."""
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            found.append((name, "only ours" if name in ours else "only theirs"))
            continue
        here, there = ours[name], theirs[name]
        for path in sorted(here.keys() | there.keys()):
            kinds = [side.get(path, "absent") for side in (here, there)]
            if kinds[0] != kinds[1] and not set("|".join(kinds).split("|")) <= EMPTY:
                found.append((f"{name} {path}", f"{kinds[0]}, not {kinds[1]}"))
    return found


def _allowed(where: str, what: str) -> list[str]:
    # Of fnmatch's signs only the star is meant: paths have brackets of their own.
    return [
        pattern
        for pattern in (*DIFFERENCES, *(CHANCE if "absent" in what else ()))
        if fnmatch.fnmatchcase(where, pattern.replace("[", "[[]"))
    ]


def _compare(ours: Shapes, theirs: Shapes) -> None:
    found = _differences(ours, theirs)
    assert [item for item in found if not _allowed(*item)] == []


def test_the_recording_is_of_these_calls() -> None:
    """A call that was added needs a recording of what dockerd answers."""
    events = {name for name in RECORDED if name.startswith("event ")}
    assert RECORDED.keys() - events == {ask.name for ask in ASKS}


def test_every_operation_is_asked_for() -> None:
    """Each operation of the API's specification has a call, or a reason why there is none."""
    operations = list(specification().operations())

    def about(ask: Ask) -> tuple[str, str]:
        path = ask.path.partition("?")[0]
        found = [
            operation
            for operation in operations
            if operation[0] == ask.method and _pattern(operation[1]).fullmatch(path)
        ]
        # The literal one of several: /images/json is no image's name.
        return min(found, key=lambda item: item[1].count("{"), default=("", ask.path))

    asked = {about(ask) for ask in ASKS}
    assert set(operations) - asked == UNASKED.keys()


def _pattern(path: str) -> re.Pattern[str]:
    # Names of images have slashes, unlike other names.
    name = ".+" if path.startswith(("/images/", "/distribution/")) else "[^/]+"
    return re.compile(re.sub(r"\{\w+\}", name, path))


def test_answers_are_as_recorded(ours: Shapes) -> None:
    """Statuses, headers, fields and types, and the events that are told meanwhile."""
    _compare(ours, RECORDED)


def test_every_difference_is_one(ours: Shapes) -> None:
    """What is listed as different, with its reason, really is."""
    assert all(DIFFERENCES.values())
    used = {pattern for item in _differences(ours, RECORDED) for pattern in _allowed(*item)}
    assert DIFFERENCES.keys() - used == set()


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "nothing is missing")
def test_answers_are_a_real_dockerds(ours: Shapes) -> None:
    """The same with a dockerd that runs now, beside."""
    with running_dockerd() as daemon:
        _compare(ours, answers(f"{daemon.folder}/s", daemon.pid))
