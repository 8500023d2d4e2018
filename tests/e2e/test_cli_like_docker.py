"""Our command line beside docker's, against the same daemon: output, errors and exit status."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.client_tour import LINES, both, prepare
from support.daemon import Daemon, leftovers
from support.docker_tour import Answer
from support.images import busybox_archive

DIFFERENCES = Path(__file__).parent / "golden" / "cli_differences.json"
"""By command line: why ours answers otherwise, and how."""

_NEWEST = 28
"""The release of docker whose words and columns these are; older ones have other columns."""


def _docker() -> int:
    if shutil.which("docker") is None:
        return 0
    said = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[2].partition(".")[0])


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        _docker() < _NEWEST, reason=f"needs the docker client of release {_NEWEST} or newer"
    ),
]


@pytest.mark.timeout(300)
def test_the_command_lines_answer_alike(tmp_path: Path) -> None:
    """But for differences that are listed with their reasons, each of which is one."""
    differences = json.loads(DIFFERENCES.read_text())
    daemon = Daemon()
    wrong: dict[str, tuple[Answer, Answer]] = {}
    try:
        daemon.start()
        archive = tmp_path / "busybox.tar"
        archive.write_bytes(busybox_archive())
        daemon.cli("load", "-i", str(archive))
        prepare(daemon)
        with ThreadPoolExecutor(2) as pool:
            for line in LINES:
                theirs, ours = both(line, daemon, pool)
                wanted = theirs
                if line in differences:
                    assert differences[line]["reason"]
                    wanted = Answer(*differences[line]["answer"])
                    assert wanted != theirs, f"no difference any more: {line}"
                if ours != wanted:
                    wrong[line] = (wanted, ours)
    finally:
        daemon.close()
    assert leftovers(daemon) == []
    assert wrong == {}
    assert differences.keys() <= set(LINES)
