"""A process's streams, log and terminal, and processes that are added to a container."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import logfile
from pannier.drivers.runtime import DetachEvent, ExecRequest, LogSpec, StdioSpec
from pannier.errors import NotFound, StartFailed
from pannier.testing.base import mandatory
from pannier.testing.runtime_bench import (
    FOREVER,
    RuntimeBench,
    RuntimeTests,
    departures,
    events,
    make_spec,
    unframe,
    wait_for,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StreamTests"]

_INPUT = StdioSpec(stdin=True)
_ONCE = StdioSpec(stdin=True, stdin_once=True)
_TERMINAL = StdioSpec(terminal=True, stdin=True, stdin_once=True)
_BOTH = "echo out; echo err >&2"
_KEYS = b"\x10\x11"
_MUCH = 4 << 20


class StreamTests(RuntimeTests):
    """Streams, logs, terminals and added processes."""

    @mandatory
    def test_streams_come_apart(self, bench: RuntimeBench) -> None:
        """Output and errors arrive in frames of their own stream; a client gets what it wants."""
        result = bench.sh(_BOTH)
        assert (result.out, result.err) == ("out\n", "err\n")
        bench.create(make_spec("sh", "-c", _BOTH))
        assert bench.start(stderr=False).streams() == {1: b"out\n", 2: b""}

    @mandatory
    def test_much_output_arrives_whole(self, bench: RuntimeBench) -> None:
        """A client that reads late loses nothing, and holds the process back meanwhile."""
        client = bench.runs(make_spec("sh", "-c", f"head -c {_MUCH} /dev/zero; echo end"))
        assert client.streams()[1] == bytes(_MUCH) + b"end\n"
        assert bench.wait().exit_status == 0

    @mandatory
    def test_input_arrives_whole_and_ends(self, bench: RuntimeBench) -> None:
        """What was sent before, what is sent then, and the end of it, all reach the process."""
        bench.create(make_spec("cat"), stdio=_ONCE)
        client = bench.client()
        bench.driver.start("box", [client.connection(pending=b"early ")])
        client.handed_over()
        data = os.urandom(1 << 20)
        sender = threading.Thread(target=client.send, args=(data,), kwargs={"last": True})
        sender.start()
        received = client.streams()[1]
        sender.join()
        expected = hashlib.sha256(b"early " + data).hexdigest()
        assert hashlib.sha256(received).hexdigest() == expected
        assert bench.wait().exit_status == 0

    @mandatory
    def test_without_input_there_is_an_end(self, bench: RuntimeBench) -> None:
        """A process without stdin reads its end at once."""
        assert bench.sh("cat; echo end").out == "end\n"

    @mandatory
    def test_input_stays_open_for_the_next_client(self, bench: RuntimeBench) -> None:
        """One client's end does not end a stdin that is not to close with it, but the client."""
        first = bench.runs(make_spec("cat"), stdio=_INPUT)
        first.send(b"one")
        first.until(b"one")
        first.send(b"", last=True)
        assert first.raw() == b""
        second = bench.attach()
        second.send(b"two")
        second.until(b"two")

    @mandatory
    def test_clients_come_and_go(self, bench: RuntimeBench) -> None:
        """Each has the output from when it came; one that vanishes holds nobody up."""
        script = "echo 1; read word; echo 2; read word; echo 3"
        first = bench.runs(make_spec("sh", "-c", script), stdio=_INPUT)
        first.until(b"1\n")
        second = bench.attach()
        first.send(b"\n")
        first.until(b"2\n")
        first.close()
        second.send(b"\n")
        assert unframe(second.raw())[1] == b"2\n3\n"
        assert bench.wait().exit_status == 0

    @mandatory
    def test_nothing_is_sent_before_the_gate_opens(self, bench: RuntimeBench) -> None:
        """A client has what came since it was attached once its gate opens, and then its end."""
        first = bench.runs(make_spec("cat"), stdio=_INPUT)
        waiting, opening = os.pipe()
        second = bench.attach(gate=waiting)
        os.close(waiting)
        first.send(b"one")
        first.until(b"one")
        bench.driver.kill("box", signal.SIGKILL)
        assert bench.wait().exit_status == 137
        assert select.select([second.socket], [], [], 0)[0] == []
        os.close(opening)
        assert second.streams()[1] == b"one"

    @mandatory
    def test_the_log_and_a_client_meet(self, bench: RuntimeBench, place: Path) -> None:
        """What was logged before the time that attaching gives, and what the client has, is all."""
        log = LogSpec(place / "log")
        script = "i=0; while :; do echo $i; i=$((i+1)); done"
        bench.create(make_spec("sh", "-c", script), stdio=StdioSpec(log=log))
        bench.start().until(b"000\n")  # there is always one more that no frame cuts
        client = bench.client()
        since = bench.driver.attach("box", client.connection())
        client.handed_over()
        got = client.until(b"0\n")
        bench.clients[0].close()
        bench.driver.kill("box", signal.SIGKILL)
        client_has = unframe(got + client.raw())[1]
        bench.wait()
        records = _records(log.path)
        before = _joined([record for record in records if record.time <= since], logfile.STDOUT)
        assert len(before) > 1000
        assert before + client_has == _joined(records, logfile.STDOUT)

    @mandatory
    def test_the_log_holds_all_output(self, bench: RuntimeBench, place: Path) -> None:
        """With nobody attached it has both streams, with times in order."""
        log = LogSpec(place / "log")
        bench.create(make_spec("sh", "-c", _BOTH), stdio=StdioSpec(log=log))
        bench.driver.start("box")
        bench.wait()
        records = _records(log.path)
        assert _joined(records, logfile.STDOUT) == b"out\n"
        assert _joined(records, logfile.STDERR) == b"err\n"
        times = [record.time for record in records]
        assert times == sorted(times)

    @mandatory
    def test_the_log_goes_on_without_a_driver(self, bench: RuntimeBench, place: Path) -> None:
        """While the driver is closed the output is logged, and the end is not lost."""
        log = LogSpec(place / "log")
        script = "echo up; read word; echo got $word"
        client = bench.runs(make_spec("sh", "-c", script), stdio=StdioSpec(stdin=True, log=log))
        client.until(b"up")
        bench.driver.close()
        client.send(b"it\n")
        assert client.until(b"got it")
        bench.opened.resume()
        assert bench.wait().exit_status == 0
        assert _joined(_records(log.path), logfile.STDOUT) == b"up\ngot it\n"

    @mandatory
    def test_a_full_log_is_begun_anew(self, bench: RuntimeBench, place: Path) -> None:
        """Older files get numbers, and no more are kept than asked for."""
        folder = place / "logs"
        folder.mkdir()
        log = LogSpec(folder / "log", max_size=3000, max_files=3)
        script = "for i in 1 2 3 4 5 6 7 8; do head -c 1000 /dev/zero; echo $i; read word; done"
        client = bench.runs(make_spec("sh", "-c", script), stdio=StdioSpec(stdin=True, log=log))
        for number in range(1, 9):
            client.until(b"%d\n" % number)
            client.send(b"\n")
        bench.wait()
        files = [log.path, folder / "log.1", folder / "log.2"]
        assert sorted(folder.iterdir()) == files
        kept = b"".join(_joined(_records(file), logfile.STDOUT) for file in reversed(files))
        assert kept.replace(b"\0", b"").split()[-3:] == [b"6", b"7", b"8"]

    # Terminals.

    @mandatory
    def test_a_terminal(self, bench: RuntimeBench) -> None:
        """All three streams are one terminal of the container's own; its output is raw."""
        script = "tty; test -t 0 && test -t 1 && test -t 2 && echo ok >/dev/tty"
        result = bench.run(make_spec("sh", "-c", script, terminal=True), stdio=_TERMINAL)
        assert result.out.replace("\r", "").split() == ["/dev/pts/0", "ok"]

    @mandatory
    def test_a_terminals_size(self, bench: RuntimeBench) -> None:
        """It is set at the start, and changed by resizing, of which the process is told."""
        script = "trap 'stty size; exit 5' WINCH; stty size; echo ready; "
        script += "while :; do sleep 0.05; done"
        stdio = StdioSpec(terminal=True, stdin=True, size=(33, 44))
        client = bench.runs(make_spec("sh", "-c", script, terminal=True), stdio=stdio)
        assert b"33 44" in client.until(b"ready")
        bench.driver.resize("box", 50, 60)
        client.until(b"50 60")
        assert bench.wait().exit_status == 5

    @mandatory
    def test_a_key_is_a_signal(self, bench: RuntimeBench) -> None:
        """Ctrl-C that a client sends interrupts the process in the terminal's foreground."""
        script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
        client = bench.runs(make_spec("sh", "-c", script, terminal=True), stdio=_TERMINAL)
        client.until(b"ready")
        client.send(b"\x03")
        client.until(b"caught")
        assert bench.wait().exit_status == 9

    @mandatory
    def test_resizing_what_has_no_terminal(self, bench: RuntimeBench) -> None:
        """It does nothing, and is no error."""
        bench.runs(make_spec(*FOREVER))
        bench.driver.resize("box", 1, 1)
        assert bench.driver.state("box").status == "running"

    @mandatory
    def test_detach_keys_let_a_client_go(self, bench: RuntimeBench) -> None:
        """They end its connection and are not passed on; the process runs on for the next."""
        script = "stty -echo raw; echo ready; cat"
        bench.create(make_spec("sh", "-c", script, terminal=True), stdio=_TERMINAL)
        client = bench.start(detach_keys=b"\x10\x11")
        client.until(b"ready")
        client.send(b"a\x10b")
        client.until(b"a\x10b")
        client.send(b"\x10\x11")
        assert b"\x10" not in client.raw()
        assert bench.driver.state("box").status == "running"
        second = bench.attach()
        second.send(b"z")
        assert second.until(b"z") == b"z"

    @mandatory
    def test_the_end_of_a_terminals_input_ends_the_client(self, bench: RuntimeBench) -> None:
        """A terminal has no end for the process to read; it stays for the next client."""
        client = bench.runs(make_spec("cat", terminal=True), stdio=_TERMINAL)
        client.send(b"one\n")
        client.until(b"one\r\none\r\n")
        client.send(b"", last=True)
        assert client.raw() == b""
        second = bench.attach()
        second.send(b"two\n")
        second.until(b"two\r\ntwo\r\n")

    @mandatory
    def test_leaving_by_keys_is_told(self, bench: RuntimeBench) -> None:
        """Once, of an added process by its id; of clients that hang up nothing is told."""
        bench.create(make_spec("cat", terminal=True), stdio=_TERMINAL)
        watch = bench.driver.watch("box")
        leaving = bench.start(detach_keys=_KEYS)
        leaving.send(_KEYS)
        assert leaving.raw() == b""
        other = bench.client()
        process = make_spec("cat", terminal=True)["process"]
        connection = other.connection(detach_keys=_KEYS)
        bench.driver.exec("box", ExecRequest("x", process, _TERMINAL, connection))
        other.handed_over()
        other.send(_KEYS)
        assert other.raw() == b""
        hanging_up = bench.attach(detach_keys=_KEYS)
        hanging_up.send(b"\n")
        hanging_up.until(b"\r\n")
        hanging_up.close()
        bench.driver.kill("box", signal.SIGKILL)
        assert departures(watch) == [DetachEvent("box", None), DetachEvent("box", "x")]
        watch.close()

    @mandatory
    def test_leaving_while_nobody_watches_is_told_later(self, bench: RuntimeBench) -> None:
        """Whoever subscribes next is told of it."""
        bench.create(make_spec("cat", terminal=True), stdio=_TERMINAL)
        client = bench.start(detach_keys=_KEYS)
        bench.driver.close()
        client.send(_KEYS)
        assert client.raw() == b""
        bench.opened.resume()
        watch = bench.driver.watch("box")
        assert events(watch) == [DetachEvent("box", None)]
        watch.close()

    # Added processes.

    @mandatory
    def test_an_added_process(self, bench: RuntimeBench) -> None:
        """It is inside, has streams of its own, and its end is an event with its id."""
        bench.runs(make_spec(*FOREVER))
        script = f"read word; echo $word; cat /proc/sys/kernel/hostname; {_BOTH}; exit 6"
        result = bench.exec("sh", "-c", script, stdin=b"word\n")
        assert (result.out, result.err) == ("word\nkit\nout\n", "err\n")
        assert result.status == 6
        assert bench.driver.state("box").status == "running"

    @mandatory
    def test_an_added_process_has_an_identity_of_its_own(self, bench: RuntimeBench) -> None:
        """User, directory and environment are the request's, not the container's."""
        bench.runs(make_spec(*FOREVER))
        script = "id -u; id -g; pwd; echo $WORD"
        result = bench.exec(
            *("sh", "-c", script),
            user={"uid": 1000, "gid": 1000},
            cwd="/tmp",
            env=["PATH=/bin", "WORD=kit"],
        )
        assert result.out.split() == ["1000", "1000", "/tmp", "kit"]

    @mandatory
    def test_an_added_process_on_a_terminal(self, bench: RuntimeBench) -> None:
        """It may have one of its own, which can be resized by the process's id."""
        bench.runs(make_spec(*FOREVER))
        client = bench.client()
        script = "stty size; read word; stty size"
        request = ExecRequest(
            "x",
            make_spec("sh", "-c", script, terminal=True)["process"],
            StdioSpec(terminal=True, stdin=True, size=(7, 9)),
            client.connection(),
        )
        assert bench.driver.exec("box", request) > 0
        client.handed_over()
        client.until(b"7 9")
        bench.driver.resize("box", 11, 13, "x")
        client.send(b"\n")
        client.until(b"11 13")
        assert bench.wait(exec_id="x").exit_status == 0

    @mandatory
    def test_a_missing_program_is_not_added(self, bench: RuntimeBench) -> None:
        """It fails as a start does, and the container runs on."""
        bench.runs(make_spec(*FOREVER))
        with pytest.raises(StartFailed, match="nonsense"):
            bench.exec("nonsense")
        assert bench.driver.state("box").status == "running"

    @mandatory
    def test_a_signal_to_an_added_process(self, bench: RuntimeBench) -> None:
        """It reaches that process alone; once it has ended nothing happens."""
        bench.runs(make_spec(*FOREVER))
        watch = bench.driver.watch("box")
        bench.driver.exec("box", ExecRequest("x", make_spec(*FOREVER)["process"]))
        bench.driver.kill_exec("box", "x", signal.SIGKILL)
        assert wait_for(watch, "x").exit_status == 137
        watch.close()
        bench.driver.kill_exec("box", "x", signal.SIGKILL)
        assert bench.driver.state("box").status == "running"

    @mandatory
    def test_an_added_process_is_found_again(self, bench: RuntimeBench) -> None:
        """After a restart it can be attached to, and its end is told with its id."""
        bench.runs(make_spec(*FOREVER))
        script = "read word; echo got $word; exit 8"
        process = make_spec("sh", "-c", script)["process"]
        bench.driver.exec("box", ExecRequest("x", process, _INPUT))
        bench.opened.reopen()
        with pytest.raises(NotFound):
            bench.driver.attach("box", bench.client().connection(), "y")
        client = bench.attach(exec_id="x")
        client.send(b"it\n")
        assert client.streams()[1] == b"got it\n"
        assert bench.wait(exec_id="x").exit_status == 8

    @mandatory
    def test_added_processes_end_with_the_container(self, bench: RuntimeBench) -> None:
        """Their connections end, and the container's own end is told."""
        bench.runs(make_spec(*FOREVER))
        client = bench.client()
        process = make_spec(*FOREVER)["process"]
        bench.driver.exec("box", ExecRequest("x", process, _INPUT, client.connection()))
        client.handed_over()
        bench.driver.kill("box", signal.SIGKILL)
        assert bench.wait().exit_status == 137
        assert client.raw() == b""


def _records(path: Path) -> list[logfile.Record]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [record for _, record in logfile.read(descriptor)]
    finally:
        os.close(descriptor)


def _joined(records: list[logfile.Record], stream: int) -> bytes:
    return b"".join(record.data for record in records if record.stream == stream)
