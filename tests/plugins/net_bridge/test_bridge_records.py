"""The journal: what it keeps, whatever happens to the process and the file."""

from __future__ import annotations

from pathlib import Path

from pannier_net_bridge.records import Records

DESCRIPTORS = Path("/proc/self/fd")


def test_changes_are_found_by_the_next(tmp_path: Path) -> None:
    """Written, replaced and removed records, without the first instance having been closed."""
    first = Records(tmp_path / "journal")
    first.write("a", {"n": 1})
    first.write("b", {"n": 2})
    first.write("a", {"n": 3})
    first.remove("b")
    first.remove("b")

    assert first.all() == [{"n": 3}]
    second = Records(tmp_path / "journal")
    assert second.all() == [{"n": 3}]
    first.close()
    second.close()


def test_order_is_that_of_the_last_change(tmp_path: Path) -> None:
    """The record written last comes last, also after reading it back."""
    records = Records(tmp_path / "journal")
    for key in "abca":
        records.write(key, {"key": key})
    records.close()

    again = Records(tmp_path / "journal")
    assert [one["key"] for one in again.all()] == ["b", "c", "a"]
    again.close()


def test_every_cut_leaves_a_readable_journal(tmp_path: Path) -> None:
    """Cut at any byte, all whole lines before the cut are kept, and no other."""
    path = tmp_path / "journal"
    records = Records(path)
    for number in range(3):
        records.write(str(number), {"n": number})
    records.close()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        cut = Records(path)
        assert len(cut.all()) == whole[:length].count(b"\n")
        cut.write("next", {})
        cut.close()
        again = Records(path)
        assert len(again.all()) == whole[:length].count(b"\n") + 1
        again.close()


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    """Thousands of changes of few records stay a small file, and no descriptor is left."""
    before = len(list(DESCRIPTORS.iterdir()))
    path = tmp_path / "journal"
    records = Records(path)
    for number in range(5000):
        records.write("one", {"n": number})
    assert len(path.read_bytes().splitlines()) < 1100
    records.close()
    again = Records(path)
    assert again.all() == [{"n": 4999}]
    again.close()
    assert len(list(DESCRIPTORS.iterdir())) == before
