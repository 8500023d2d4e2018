"""A monitor's log: records straight from a pipe, and clients who are sent them from the file."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import logfile
from pannier.stdio.clients import Client, Stored
from pannier.stdio.log import LogFile
from pannier.testing.faults import small_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.stdio.jobs import ConnectionJob

F_SETPIPE_SZ = 1031
MIB = 1 << 20
TEXT = b"".join(b"%d\n" % number for number in range(1_000_000))[:MIB]


@contextmanager
def pipe_with(data: bytes) -> Iterator[int]:
    """Give the end to read of a pipe that holds *data*."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(write, F_SETPIPE_SZ, MIB)
        assert os.write(write, data) == len(data)
        yield read
    finally:
        os.close(read)
        os.close(write)


@contextmanager
def log_at(
    folder: Path, kind: type[LogFile] = LogFile, *, max_size: int = 0, max_files: int = 1
) -> Iterator[LogFile]:
    """Give a log named ``log`` in a folder, opened as the driver does."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    file = os.open(folder / "log", flags, 0o600)
    where = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        yield kind(
            {
                "file": file,
                "folder": where,
                "name": b"log",
                "max_size": max_size,
                "max_files": max_files,
            },
            file,
            where,
        )
    finally:
        os.close(file)
        os.close(where)


def output_client(ours: socket.socket) -> Client:
    """Return a client who only reads."""
    job: ConnectionJob = {
        "socket": 0,
        "stdin": False,
        "stdout": True,
        "stderr": True,
        "framed": False,
        "detach_keys": b"",
        "pending": b"",
    }
    return Client(job, ours.detach(), terminal=False)


def records(path: Path) -> list[bytes]:
    """Return the data of the whole records of a log."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [record.data for _, record in logfile.read(descriptor)]
    finally:
        os.close(descriptor)


def descriptors() -> int:
    """Return how many descriptors are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def taken(log: LogFile, pipe: int, length: int) -> Stored:
    """Have a log take what a pipe holds; return where in the file it has put it."""
    stored = log.take(1, pipe, length)
    assert isinstance(stored, Stored)
    return stored


def content(stored: Stored) -> bytes:
    """Return what lies where a log says that it has put it."""
    return os.pread(stored.descriptor, stored.length, stored.offset)


def test_records_from_a_pipe_and_from_memory_follow_each_other(tmp_path: Path) -> None:
    """Either way of writing goes on where the other ended."""
    with log_at(tmp_path) as log, pipe_with(TEXT) as pipe:
        log.write(1, memoryview(b"first"))
        assert content(taken(log, pipe, 700_000)) == TEXT[:700_000]
        log.write(2, memoryview(b"between"))
        assert content(taken(log, pipe, len(TEXT) - 700_000)) == TEXT[700_000:]
    expected = [b"first", TEXT[:700_000], b"between", TEXT[700_000:]]
    assert records(tmp_path / "log") == expected


def test_a_full_log_is_begun_anew_for_what_a_pipe_holds(tmp_path: Path) -> None:
    """What was stored in the old file stays readable for a client who is behind."""
    with log_at(tmp_path, max_size=600_000, max_files=2) as log, pipe_with(TEXT) as pipe:
        first = taken(log, pipe, 500_000)
        kept = first.rest(100)
        second = taken(log, pipe, 300_000)
        assert content(second) == TEXT[500_000:800_000]
        assert content(kept) == TEXT[100:500_000]
        os.close(kept.descriptor)
    assert records(tmp_path / "log.1") == [TEXT[:500_000]]
    assert records(tmp_path / "log") == [TEXT[500_000:800_000]]


@pytest.mark.root
def test_on_a_full_disk_a_record_has_what_there_was_room_for(tmp_path: Path) -> None:
    """What the file did not take is still in the pipe, and the log is sound."""
    with small_filesystem(tmp_path / "small", 256 << 10) as folder:
        with log_at(folder) as log, pipe_with(TEXT) as pipe:
            stored = taken(log, pipe, len(TEXT))
            assert 0 < stored.length < len(TEXT)
            assert content(stored) == TEXT[: stored.length]
            assert log.take(1, pipe, len(TEXT) - stored.length) is None
            assert os.read(pipe, len(TEXT)) == TEXT[stored.length :]
        assert records(folder / "log") == [TEXT[: stored.length]]


class Uncorrectable(LogFile):
    """A log on a filesystem that has no room even to write over what is there, as btrfs can."""

    __slots__ = ()

    def _correct(self, start: int, stream: int, length: int) -> bool:
        del start, stream, length
        return False


@pytest.mark.root
def test_a_record_that_cannot_be_corrected_reaches_the_clients_alone(tmp_path: Path) -> None:
    """What the pipe gave is handed over in memory, and the log is as it was before."""
    with small_filesystem(tmp_path / "small", 256 << 10) as folder:
        with log_at(folder, Uncorrectable) as log, pipe_with(TEXT) as pipe:
            log.write(1, memoryview(b"before"))
            kept = log.take(1, pipe, len(TEXT))
            assert isinstance(kept, memoryview)
            assert 0 < len(kept) < len(TEXT)
            assert bytes(kept) + os.read(pipe, len(TEXT)) == TEXT
            log.write(1, memoryview(b"after"))
        assert records(folder / "log") == [b"before", b"after"]


def test_a_log_that_was_emptied_goes_on_at_its_beginning(tmp_path: Path) -> None:
    """As it does where records are written from memory."""
    with log_at(tmp_path) as log, pipe_with(TEXT) as pipe:
        log.take(1, pipe, 400_000)
        os.truncate(tmp_path / "log", 0)
        assert content(taken(log, pipe, 100_000)) == TEXT[400_000:500_000]
    assert records(tmp_path / "log") == [TEXT[400_000:500_000]]


def test_a_log_whose_name_another_file_has_leaves_the_pipe_alone(tmp_path: Path) -> None:
    """A stranger's file is not written to."""
    with log_at(tmp_path) as log, pipe_with(TEXT) as pipe:
        (tmp_path / "log").rename(tmp_path / "moved")
        (tmp_path / "log").write_bytes(b"a stranger's")
        assert log.take(1, pipe, len(TEXT)) is None
        assert os.read(pipe, len(TEXT)) == TEXT
    assert (tmp_path / "log").read_bytes() == b"a stranger's"


def test_a_client_gets_what_is_stored_and_what_is_not_in_order(tmp_path: Path) -> None:
    """However little its socket takes at a time; and nothing stays open."""
    ours, theirs = socket.socketpair()
    before = descriptors()
    with log_at(tmp_path) as log, pipe_with(TEXT) as pipe:
        client = output_client(ours)
        stored = taken(log, pipe, 900_000)
        client.push(b"<1>", stored)
        client.push(b"<2>", memoryview(b"memory"))
        more = taken(log, pipe, 100_000)
        client.push(b"<3>", more)
        assert client.size > 0
        got = bytearray()
        theirs.settimeout(60)
        while client.backlog:
            got += theirs.recv(100_000)
            client.flush()
        assert client.size == 0
        client.close()
        while data := theirs.recv(1 << 16):
            got += data
    assert got == b"<1>" + TEXT[:900_000] + b"<2>memory<3>" + TEXT[900_000:1_000_000]
    theirs.close()
    # The log holds one descriptor for splicing until it is replaced.
    assert descriptors() <= before


def test_a_client_who_leaves_lets_go_of_what_was_stored_for_it(tmp_path: Path) -> None:
    """No descriptor is left of what it did not read."""
    ours, theirs = socket.socketpair()
    with log_at(tmp_path) as log, pipe_with(TEXT) as pipe:
        client = output_client(ours)
        stored = taken(log, pipe, len(TEXT))
        before = descriptors()
        client.push(b"header", stored)
        assert descriptors() == before + 1
        client.close()
        assert descriptors() == before - 1
    theirs.close()
