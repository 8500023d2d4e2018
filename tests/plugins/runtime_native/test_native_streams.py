"""Streams: attaching, the log, terminals, input, detaching, slow and vanished clients."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import logfile
from pannier.drivers.runtime import LogSpec, StdioSpec
from pannier.errors import Conflict
from pannier.stdio.log import HEADER
from support.native import make_spec, unframe

if TYPE_CHECKING:
    from pathlib import Path

    from support.native import Box

pytestmark = pytest.mark.root

INPUT = StdioSpec(stdin=True, stdin_once=True)
TERMINAL = StdioSpec(terminal=True, stdin=True, stdin_once=True)


def read_log(path: Path) -> list[logfile.Record]:
    """Return the whole records of a log."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [record for _, record in logfile.read(descriptor)]
    finally:
        os.close(descriptor)


def joined(records: list[logfile.Record], stream: int) -> bytes:
    """Return one stream's bytes."""
    return b"".join(record.data for record in records if record.stream == stream)


def test_the_log_has_the_contracts_form() -> None:
    """The shim's own header is the contract's."""
    assert HEADER.format == logfile.HEADER.format


def test_streams_come_apart(box: Box) -> None:
    """Output and errors arrive as frames of their own stream."""
    result = box.sh("echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n")


def test_output_waits_until_the_head_of_the_answer_is_read(box: Box) -> None:
    """Clients that read the head through a buffer lose what comes with it: nothing does."""
    box.create("a", make_spec("sh", "-c", "echo out"))
    client = box.client()
    client.theirs.send(b"HTTP/1.1 101 UPGRADED")
    box.driver.start("a", [client.connection()])
    client.handed_over()
    box.wait("a")
    assert client.socket.recv(1000) == b"HTTP/1.1 101 UPGRADED"
    assert client.streams() == {1: b"out\n", 2: b""}


def test_deleting_an_ended_container_takes_no_output_from_its_clients(box: Box) -> None:
    """The engine deletes it at once, and a client may have much to read still."""
    box.create("a", make_spec("sh", "-c", "head -c 400000 /dev/zero"))
    client = box.start("a")
    box.wait("a")
    deleting = threading.Thread(target=box.driver.delete, args=("a",))
    deleting.start()
    deleting.join(0.5)  # it has been asked for, and waits for the client
    assert len(client.streams()[1]) == 400_000
    deleting.join(30)
    assert not deleting.is_alive()


def test_a_client_gets_only_what_it_asked_for(box: Box) -> None:
    """Without stderr, nothing of it comes."""
    box.create("a", make_spec("sh", "-c", "echo out; echo err >&2"))
    assert box.start("a", stderr=False).streams() == {1: b"out\n", 2: b""}


def test_the_log_holds_all_output(box: Box, tmp_path: Path) -> None:
    """With nobody attached, the log has both streams, with times in order."""
    log = LogSpec(tmp_path / "log")
    box.create("a", make_spec("sh", "-c", "echo out; echo err >&2"), stdio=StdioSpec(log=log))
    box.driver.start("a")
    box.wait("a")
    records = read_log(log.path)
    assert joined(records, logfile.STDOUT) == b"out\n"
    assert joined(records, logfile.STDERR) == b"err\n"
    assert [record.time for record in records] == sorted(record.time for record in records)


def test_a_record_cut_short_is_taken_off_before_more_is_written(box: Box, tmp_path: Path) -> None:
    """What a killed writer left does not hide what a later container writes."""
    path = tmp_path / "log"
    path.write_bytes(logfile.pack_header(1, 1, 3) + b"one" + logfile.pack_header(2, 1, 99) + b"cut")
    stdio = StdioSpec(log=LogSpec(path))
    box.create("a", make_spec("echo", "two"), stdio=stdio)
    box.driver.start("a")
    box.wait("a")
    assert joined(read_log(path), logfile.STDOUT) == b"onetwo\n"


def test_the_log_is_begun_anew_when_full(box: Box, tmp_path: Path) -> None:
    """Older files get numbers, and no more are kept than asked for."""
    path = tmp_path / "log"
    log = LogSpec(path, max_size=3000, max_files=3)
    script = "for i in 1 2 3 4 5 6 7 8; do head -c 1000 /dev/zero; echo $i; read _; done"
    box.create("a", make_spec("sh", "-c", script), stdio=StdioSpec(stdin=True, log=log))
    client = box.start("a")
    for number in range(1, 9):
        client.until(b"%d\n" % number)
        client.send(b"\n")
    box.wait("a")
    files = [path, path.with_name("log.1"), path.with_name("log.2")]
    assert sorted(tmp_path.glob("log*")) == files
    assert all(file.stat().st_size <= log.max_size for file in files)
    kept = b"".join(joined(read_log(file), 1) for file in reversed(files))
    assert kept.replace(b"\0", b"").split() == [b"3", b"4", b"5", b"6", b"7", b"8"]


def test_many_megabytes_arrive_whole(box: Box, tmp_path: Path) -> None:
    """Client and log both have every byte."""
    size = 40 << 20
    log = LogSpec(tmp_path / "log")
    spec = make_spec("sh", "-c", f"yes 0123456789 | head -c {size}")
    box.create("a", spec, stdio=StdioSpec(log=log))
    out = box.start("a").streams()[1]
    box.wait("a")
    assert len(out) == size
    assert out == (b"0123456789\n" * (size // 11 + 1))[:size]
    assert joined(read_log(log.path), logfile.STDOUT) == out


def test_a_slow_client_loses_nothing_and_holds_the_process_back(box: Box) -> None:
    """Nothing is read for the client beyond a bound, until it reads."""
    size = 30 << 20
    box.create("a", make_spec("sh", "-c", f"head -c {size} /dev/zero; echo >&2 done"))
    client = box.start("a")
    first = client.socket.recv(10)
    assert box.driver.state("a").status == "running"
    out = unframe(first + client.raw())
    assert len(out[1]) == size
    assert out[2] == b"done\n"


def test_a_vanished_client_holds_nothing_up(box: Box) -> None:
    """Its end is closed in mid-stream; the process goes on, and another client is served."""
    box.create("a", make_spec("sh", "-c", "head -c 30000000 /dev/zero; echo end"))
    gone, stays = box.client(), box.client()
    box.driver.start("a", [gone.connection(), stays.connection()])
    gone.handed_over()
    stays.handed_over()
    gone.socket.recv(100)
    gone.socket.close()
    out = stays.streams()[1]
    assert len(out) == 30000004
    assert box.wait("a").exit_status == 0


def test_several_clients_get_the_same(box: Box) -> None:
    """All of them, from when they came."""
    box.create("a", make_spec("sh", "-c", "echo 1; read _; echo 2"), stdio=INPUT)
    first = box.start("a")
    got = first.until(b"1\n")
    second = box.client()
    box.driver.attach("a", second.connection())
    second.handed_over()
    first.send(b"\n")
    assert unframe(got + first.raw())[1] == b"1\n2\n"
    assert second.streams()[1] == b"2\n"


def test_end_of_input_reaches_the_process(box: Box) -> None:
    """A client that closes its sending half ends the process's stdin, and still reads output."""
    box.create("a", make_spec("cat"), stdio=INPUT)
    client = box.start("a")
    client.send(b"hello")
    client.half_close()
    assert client.streams()[1] == b"hello"
    assert box.wait("a").exit_status == 0


def test_much_input_arrives_whole(box: Box) -> None:
    """Input beyond what the pipe takes waits in the client's socket."""
    data = os.urandom(1 << 20) * 20
    box.create("a", make_spec("sh", "-c", "sleep 0.2; md5sum; cat"), stdio=INPUT)
    client = box.start("a")
    sender = threading.Thread(target=client.send, args=(data,), kwargs={"last": True})
    sender.start()
    out = client.streams()[1]
    sender.join()
    assert out.split()[0].decode() == hashlib.md5(data).hexdigest()


def test_input_that_came_before_is_delivered_first(box: Box) -> None:
    """What the client had sent already, then what it sends."""
    box.create("a", make_spec("cat"), stdio=INPUT)
    client = box.client()
    box.driver.start("a", [client.connection(pending=b"one ")])
    client.handed_over()
    client.send(b"two")
    client.half_close()
    assert client.streams()[1] == b"one two"


def test_stdin_stays_open_unless_once(box: Box) -> None:
    """A client's end does not end a stdin that is to stay, but the client."""
    box.create("a", make_spec("cat"), stdio=StdioSpec(stdin=True))
    first = box.start("a")
    first.send(b"one")
    first.until(b"one")
    first.half_close()
    assert first.raw() == b""
    second = box.client()
    box.driver.attach("a", second.connection())
    second.handed_over()
    second.send(b"two")
    assert b"two" in second.until(b"two")


def test_what_was_sent_before_the_end_of_input_arrives(box: Box) -> None:
    """The process has all of it, and the client what had come out by then, read or not."""
    script = f"head -c {1 << 20} /dev/zero; read word; test $word = it"
    box.create("a", make_spec("sh", "-c", script), stdio=StdioSpec(stdin=True))
    client = box.start("a")
    got = client.until(b"\x01\0\0\0")  # much more waits for this client, which holds it back
    client.send(b"it\n")
    client.half_close()
    assert set(unframe(got + client.raw())[1]) == {0}
    assert box.wait("a").exit_status == 0


def test_without_stdin_there_is_dev_null(box: Box) -> None:
    """The process reads an end at once, from the container's own null device."""
    result = box.sh("cat; readlink /proc/self/fd/0")
    assert result.out == "/dev/null\n"


def test_a_terminal(box: Box) -> None:
    """It is a controlling terminal in the container's own devpts, shown as /dev/console too."""
    spec = make_spec(
        "sh", "-c", "tty; test -t 0 && test -c /dev/console && echo ok >/dev/tty; ls /dev/pts"
    )
    out = box.run(spec, stdio=TERMINAL).out
    assert out.replace("\r", "").split() == ["/dev/pts/0", "ok", "0", "ptmx"]


def test_a_client_may_ask_for_frames_of_a_terminals_output(box: Box) -> None:
    """Each client has what it asked for, whatever the others have.

    A terminal hands a line's end over apart from the line, which would be a frame of its own.
    """
    box.create("a", make_spec("sh", "-c", "printf out; sleep 100"), stdio=TERMINAL)
    framed, raw = box.client(), box.client()
    box.driver.start("a", [framed.connection(framed=True), raw.connection()])
    framed.handed_over()
    raw.handed_over()
    assert framed.until(b"out") == b"\x01\0\0\0\0\0\0\x03out"
    assert raw.until(b"out") == b"out"


def test_a_terminals_size_is_set_and_changed(box: Box) -> None:
    """At the start, and by resizing, of which the process is told."""
    script = "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done"
    stdio = StdioSpec(terminal=True, stdin=True, size=(33, 44))
    box.create("a", make_spec("sh", "-c", script), stdio=stdio)
    client = box.start("a")
    assert b"33 44" in client.until(b"ready")
    box.driver.resize("a", 50, 60)
    assert b"50 60" in client.until(b"50 60")
    assert box.wait("a").exit_status == 5


def test_interrupt_through_the_terminal(box: Box) -> None:
    """Ctrl-C sent by the client is a SIGINT in the container."""
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    box.create("a", make_spec("sh", "-c", script), stdio=TERMINAL)
    client = box.start("a")
    client.until(b"ready")
    client.send(b"\x03")
    client.until(b"caught")
    assert box.wait("a").exit_status == 9


def test_resizing_what_has_no_terminal_does_nothing(box: Box) -> None:
    """As the contract says."""
    box.create("a", make_spec("sleep", "100"))
    box.driver.resize("a", 1, 1)


def test_detach_keys_detach_and_are_not_passed_on(box: Box) -> None:
    """The client's connection ends; the process runs on, and another client can attach."""
    box.create("a", make_spec("sh", "-c", "stty -echo raw; echo ready; cat"), stdio=TERMINAL)
    client = box.client()
    box.driver.start("a", [client.connection(detach_keys=b"\x10\x11")])
    client.handed_over()
    client.until(b"ready")
    client.send(b"a\x10b")
    out = client.until(b"b")
    assert b"a\x10b" in out
    client.send(b"\x10")
    client.send(b"\x11")
    assert b"\x10" not in client.raw()
    assert box.driver.state("a").status == "running"
    second = box.client()
    box.driver.attach("a", second.connection())
    second.handed_over()
    second.send(b"z")
    assert second.until(b"z") == b"z"


def test_attaching_to_what_has_stopped_conflicts(box: Box) -> None:
    """There is nothing to attach to."""
    box.create("a", make_spec("true"))
    box.driver.start("a")
    box.wait("a")
    ours, theirs = socket.socketpair()
    client = box.client()
    with pytest.raises(Conflict):
        box.driver.attach("a", client.connection())
    ours.close()
    theirs.close()


def test_output_of_descendants_is_complete(box: Box) -> None:
    """What a child wrote just before the end of pid 1 is delivered."""
    result = box.sh("(sleep 0.1; head -c 200000 /dev/zero) & wait; exit 4")
    assert (result.status, len(result.out)) == (4, 200000)
