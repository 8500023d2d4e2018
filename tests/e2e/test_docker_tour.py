"""A tour of the docker command: Pannier's answers beside those recorded of a dockerd 20.10."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.daemon import Daemon, leftovers
from support.docker_tour import STEPS, Answer, answers

GOLDEN = Path(__file__).parent / "golden" / "docker_tour_20_10.json"
DIFFERENCES = Path(__file__).parent / "golden" / "docker_tour_differences.json"
"""By step: why Pannier answers otherwise, and how."""

pytestmark = pytest.mark.skipif(
    shutil.which("docker") is None, reason="needs the docker client: apt-get install docker.io"
)


def _recorded() -> dict[str, Answer]:
    return {line: Answer(*answer) for line, answer in json.loads(GOLDEN.read_text()).items()}


@pytest.fixture(scope="module")
def toured() -> dict[str, Answer]:
    """Return the answers of a daemon of its own."""
    daemon = Daemon()
    try:
        daemon.start()
        assert daemon.process is not None
        found = answers(daemon.host, daemon.process.pid)
    finally:
        daemon.close()
    assert leftovers(daemon) == []
    return found


def test_the_tour_is_the_recorded_one() -> None:
    """A step that was added needs a recording of what dockerd answers."""
    assert [line[4:] for line in _recorded()] == [step.line for step in STEPS]


@pytest.mark.timeout(300)
def test_answers_are_dockers(toured: dict[str, Answer]) -> None:
    """Status, output and errors, but for the differences that are listed with their reasons."""
    recorded = _recorded()
    wanted = dict(recorded)
    for line, difference in json.loads(DIFFERENCES.read_text()).items():
        assert difference["reason"]
        wanted[line] = Answer(*difference["answer"])
        assert wanted[line] != recorded[line], f"no difference any more: {line}"
    wrong = {
        line: (answer, toured[line]) for line, answer in wanted.items() if answer != toured[line]
    }
    assert wrong == {}
