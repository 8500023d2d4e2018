"""Ansible's modules for Docker: a site is brought up, found unchanged, changed, and taken away."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.applications import APPLICATIONS, KEPT, why_not_kept

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(why_not_kept()), reason=why_not_kept()),
]

LOAD = "load the base image"
"""Whose module says of every load that something has changed."""

RELEASE = "ansible==12.*"  # with the collection community.docker in it


@pytest.fixture(scope="module")
def tool() -> Path:
    """Return ``ansible-playbook``, installed into the folder that is kept."""
    assert KEPT is not None
    venv = KEPT / "ansible"
    program = venv / "bin/ansible-playbook"
    if not program.exists():
        shutil.rmtree(venv, ignore_errors=True)
        KEPT.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        # Half a gigabyte of modules, of which a handful is run: not compiled ahead.
        wanted = ("--no-compile", RELEASE, "requests")
        subprocess.run([venv / "bin/pip", "install", "-q", *wanted], check=True)
    return program


class Playbooks:
    """Runs playbooks on a daemon, and tells what they changed."""

    def __init__(self, tool: Path, daemon: Daemon, base: Path, work: Path) -> None:
        self._tool = tool
        self._facts = {
            "engine": daemon.host,
            "base": str(base),
            "work": str(work),
            "ansible_python_interpreter": str(tool.parent / "python"),
        }
        self._home = work / "home"
        self._home.mkdir()

    def __call__(self, name: str) -> set[str]:
        """Run one; return the names of the tasks that changed something."""
        done = subprocess.run(
            [
                *(self._tool, "-i", "localhost,", "-c", "local"),
                *("-e", json.dumps(self._facts), APPLICATIONS / "ansible" / name),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._home),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_NOCOLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        changed = set()
        for part in done.stdout.split("\nTASK [")[1:]:
            if re.search(r"^changed: ", part, re.MULTILINE):
                changed.add(part.partition("]")[0])
        return changed


def test_a_site_is_brought_up_once(
    tool: Path, own_daemon: Daemon, busybox: Path, tmp_path: Path
) -> None:
    """The second run changes nothing; what is then asked for otherwise is changed, and all goes."""
    play = Playbooks(tool, own_daemon, busybox, tmp_path)
    first = play("playbook.yml")
    assert first == {
        LOAD,
        "tag the base image",
        "build the site's image",
        "export both",
        "make the network",
        "make the volume",
        "start the web server",
        "start the helper",
        "copy a page in",
    }
    before = {name: own_daemon.inspect(name)["Id"] for name in ("web", "helper")}
    assert play("playbook.yml") == {LOAD}
    assert {name: own_daemon.inspect(name)["Id"] for name in before} == before
    play("away.yml")
    assert own_daemon.cli("ps", "-aq").stdout == ""
    assert own_daemon.cli("volume", "ls", "-q").stdout == ""
    networks = own_daemon.cli("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert sorted(networks) == ["bridge", "host", "none"]
