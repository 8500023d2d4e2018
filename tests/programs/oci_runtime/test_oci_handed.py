"""The descriptors that ``pannier-runtime`` hands on to the container's process, and no others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.bundles import PROGRAM

if TYPE_CHECKING:
    from pathlib import Path

    from support.bundles import Bundle

pytestmark = pytest.mark.root

_SHOW = "echo $LISTEN_FDS $LISTEN_PID $(ls /proc/self/fd)"


@pytest.mark.parametrize(("count", "receiver"), [("1", "1"), ("1", ""), ("x", "x")])
def test_sockets_that_were_passed_to_another_are_none_of_ours(
    bundle: Bundle, tmp_path: Path, count: str, receiver: str
) -> None:
    """The process has its streams (and the folder that ls opens); not our log in their place."""
    bundle.write(bundle.spec("sh", "-c", _SHOW))
    variables = {**os.environ, "LISTEN_FDS": count, "LISTEN_PID": receiver}
    log = ("--log", str(tmp_path / "log"))
    assert bundle.do("run", "one", options=log, env=variables).split() == ["0", "1", "2", "3"]
    assert bundle.do("run", "two", env=variables).split() == ["0", "1", "2", "3"]


def test_sockets_that_were_passed_to_us_are_passed_on(bundle: Bundle, tmp_path: Path) -> None:
    """Told as sd_listen_fds(3) expects it; *preserved* ones follow."""
    first, second = bundle.folder / "rootfs/tmp/first", bundle.folder / "rootfs/tmp/second"
    bundle.write(bundle.spec("sh", "-c", f"echo a >&3; echo b >&4; {_SHOW}"))
    script = f"""
    exec 3> {first} 4> {second}
    LISTEN_FDS=1 LISTEN_PID=$$ exec {PROGRAM} --root {bundle.state} --log {tmp_path}/log \
        run --preserve-fds 1 one
    """
    done = bundle.script(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1", "0", "1", "2", "3", "4", "5"]
    assert (first.read_text(), second.read_text()) == ("a\n", "b\n")


@pytest.mark.parametrize("count", ["x", "-1", "1"])
def test_sockets_that_cannot_have_been_passed_are_an_error(
    bundle: Bundle, tmp_path: Path, count: str
) -> None:
    """A number that is none, or more than there are; our log is not taken for one of them."""
    bundle.write(bundle.spec("true"))
    done = bundle.script(f"""
    LISTEN_FDS={count} LISTEN_PID=$$ exec {PROGRAM} --root {bundle.state} --log {tmp_path}/log \
        run one
    """)
    assert done.returncode == 1
    said = "descriptor 3 is not open" if count == "1" else f"LISTEN_FDS: '{count}'"
    assert said in done.stderr
    assert said in (tmp_path / "log").read_text()


def test_no_number_of_sockets_is_none(bundle: Bundle) -> None:
    """A manager that names us, and passes nothing, is no error: sd_listen_fds(3)."""
    bundle.write(bundle.spec("echo", "ran"))
    done = bundle.script(f"LISTEN_FDS= LISTEN_PID=$$ exec {PROGRAM} --root {bundle.state} run one")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_the_log_is_not_handed_on(bundle: Bundle, tmp_path: Path, command: str) -> None:
    """It is not taken for a descriptor that the caller has failed to open."""
    bundle.create("one", bundle.spec("sleep", "100"))
    log = ("--log", str(tmp_path / "log"))
    words = ["one", "true"] if command == "exec" else ["two"]
    said = bundle.refused(command, "--preserve-fds", "1", *words, options=log)
    assert "descriptor 3 is not open" in said
    assert "descriptor 3 is not open" in (tmp_path / "log").read_text()
