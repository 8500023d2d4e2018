"""A container that awaits its start, whoever asks for it meanwhile and whatever stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.errors import Conflict, DriverError
from pannier_oci import awaiting
from pannier_oci.lifecycle import start
from pannier_oci.records import Records
from support.bundles import PROGRAM

if TYPE_CHECKING:
    from support.bundles import Bundle

pytestmark = pytest.mark.root

_OFTEN = 20  # more than the kernel keeps of connections that nobody accepts
_ASK_OFTEN = """
import pathlib, sys
from pannier_oci.records import Records
records = Records(pathlib.Path(sys.argv[1]))
print(*{records.read("one").status() for _ in range(int(sys.argv[2]))})
"""


def ask_often(bundle: Bundle) -> str:
    """Return all that a container's status was, asked for again and again."""
    asking = [sys.executable, "-c", _ASK_OFTEN, str(bundle.state), str(_OFTEN)]
    done = subprocess.run(asking, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_a_created_container_can_be_paused(bundle: Bundle) -> None:
    """It is paused however often it is asked, not started meanwhile, and goes on as created."""
    output = bundle.create("one", bundle.spec("echo", "hello"))
    bundle.do("pause", "one")
    assert ask_often(bundle) == "paused"
    assert "cannot start a container that is paused" in bundle.refused("start", "one")
    assert "paused container" in bundle.refused("exec", "one", "true")
    bundle.do("resume", "one")
    assert ask_often(bundle) == "created"
    bundle.do("start", "one")
    assert output.read() == "hello\n"


def test_a_created_container_that_is_paused_can_be_killed(bundle: Bundle) -> None:
    """SIGKILL ends it without another having to resume it."""
    bundle.create("one", bundle.spec("echo", "hello"))
    bundle.do("pause", "one")
    bundle.do("kill", "one", "KILL")
    assert bundle.read_state("one")["status"] == "stopped"


def test_a_first_process_that_is_held_up_holds_nobody_up(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state can be asked for; a start gives up, and does not take effect later."""
    output = bundle.create("one", bundle.spec("echo", "hello"))
    records = Records(bundle.state)
    record = records.read("one")
    monkeypatch.setattr(awaiting, "PATIENCE", 0.1)
    os.kill(record.pid, signal.SIGSTOP)
    try:
        assert ask_often(bundle) == "created"
        for _ in range(_OFTEN):
            with pytest.raises(DriverError, match="does not answer"):
                start(records, bundle.state, "one")
    finally:
        os.kill(record.pid, signal.SIGCONT)
    monkeypatch.undo()
    assert record.status() == "created"
    start(records, bundle.state, "one")
    assert output.read() == "hello\n"


def test_a_container_is_created_until_its_start_hooks_have_run(bundle: Bundle) -> None:
    """As those hooks are told; it is started by one only, and others hear so at once."""
    os.mkfifo(bundle.folder / "rootfs/tmp/fifo")
    output = bundle.create("one", with_waiting_hook(bundle))
    starting = subprocess.Popen([PROGRAM, "--root", bundle.state, "start", "one"])
    with (bundle.folder / "rootfs/tmp/fifo").open("w") as fifo:  # the hook reads by now
        assert ask_often(bundle) == "created"
        with pytest.raises(Conflict, match="has been started already"):
            start(Records(bundle.state), bundle.state, "one")
        fifo.write("go on\n")
    assert starting.wait(60) == 0
    assert output.read() == "hello\n"


def with_waiting_hook(bundle: Bundle) -> Any:
    """Return a configuration with a startContainer hook that waits for a word."""
    spec = bundle.spec("echo", "hello")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "read word < /tmp/fifo"]}
    spec["hooks"] = cast("Any", {"startContainer": [hook]})
    return spec
