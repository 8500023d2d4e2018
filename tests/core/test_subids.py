"""``userns_remap``: how ids are asked for, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.errors import ConfigError
from pannier.subids import parse_remap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return the two files, with a range for alice and two for the group builders."""
    uids, gids = tmp_path / "subuid", tmp_path / "subgid"
    uids.write_text("bob:1:2\nalice:100000:65536\n")
    gids.write_text("builders:200000:10\nalice:5:5\nbuilders:300000:20\n")
    return {"subuid": uids, "subgid": gids}


def test_nothing_asked_for_is_no_map() -> None:
    """The default is the host's own ids."""
    assert parse_remap("") is None


def test_numbers_give_one_range_each() -> None:
    """First uid, first gid, size."""
    expected = IdMap((IdMapping(0, 100, 50),), (IdMapping(0, 200, 50),))
    assert parse_remap("100:200:50") == expected


def test_a_user_and_group_are_looked_up(files: dict[str, Path]) -> None:
    """Several ranges follow one another inside the container."""
    found = parse_remap("alice:builders", **files)
    assert found is not None
    assert found.uids == (IdMapping(0, 100000, 65536),)
    assert found.gids == (IdMapping(0, 200000, 10), IdMapping(10, 300000, 20))
    assert found.host_gid(12) == 300002


@pytest.mark.parametrize("text", ["0:0:1", "1:1:0", "1:2:4294967296", "a:b:c", "carol", ":x"])
def test_what_cannot_be_mapped_is_refused(text: str, files: dict[str, Path]) -> None:
    """Mapping the host's root, empty ranges, overflow and unknown users are errors with a hint."""
    with pytest.raises(ConfigError) as caught:
        parse_remap(text, **files)
    assert caught.value.hint
