"""The log file's records: read back whole, and damaged ends left out."""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.drivers import logfile
from pannier.errors import DriverError

if TYPE_CHECKING:
    from pathlib import Path

records = st.lists(
    st.tuples(st.integers(0, 2**63), st.sampled_from([logfile.STDOUT, logfile.STDERR]), st.binary())
)


def written(entries: list[tuple[int, int, bytes]]) -> bytes:
    """Return the bytes of a log with these records."""
    return b"".join(
        logfile.pack_header(time, stream, len(data)) + data for time, stream, data in entries
    )


@given(records, st.binary(max_size=15))
def test_what_was_written_is_read_back(entries: list[tuple[int, int, bytes]], rest: bytes) -> None:
    """A cut header at the end is left out, and is where a writer goes on."""
    text = written(entries)
    with TemporaryFile() as file:
        file.write(text + rest)
        file.flush()
        found = list(logfile.read(file.fileno()))
        assert [(r.time, r.stream, r.data) for _, r in found] == entries
        assert logfile.sound_length(file.fileno()) == len(text)


@given(records, st.integers(1, 40))
def test_a_log_that_lost_its_end_keeps_its_whole_records(
    entries: list[tuple[int, int, bytes]], lost: int
) -> None:
    """Whatever length the file was cut to, no record is invented."""
    text = written(entries)[:-lost]
    with TemporaryFile() as file:
        file.write(text)
        file.flush()
        found = [(r.time, r.stream, r.data) for _, r in logfile.read(file.fileno())]
        assert found == entries[: len(found)]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    """The offset given with a record is where the next one begins."""
    path = tmp_path / "log"
    path.write_bytes(written([(1, 1, b"a"), (2, 2, b"b")]))
    descriptor = os.open(path, os.O_RDONLY)
    (first, _), (end, _) = logfile.read(descriptor)
    assert [record.data for _, record in logfile.read(descriptor, first)] == [b"b"]
    assert end == path.stat().st_size
    os.close(descriptor)


def test_a_writer_goes_on_behind_the_last_whole_record(tmp_path: Path) -> None:
    """What its predecessor did not finish is cut off, so that readers find what follows."""
    path = tmp_path / "log"
    whole = written([(1, 1, b"a")])
    path.write_bytes(whole + written([(2, 2, b"lost")])[:-1])
    descriptor = logfile.open_for_appending(path)
    os.write(descriptor, written([(3, 1, b"b")]))
    assert [record.data for _, record in logfile.read(descriptor)] == [b"a", b"b"]
    os.close(descriptor)


def test_a_log_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """Its path stands in the error, with the kernel's reason."""
    path = tmp_path / "missing" / "log"
    with pytest.raises(DriverError, match=f"{path}: No such file or directory"):
        logfile.open_for_appending(path)
