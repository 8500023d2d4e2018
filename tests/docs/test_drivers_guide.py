"""The guide's examples are working plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pannier import config
from pannier.drivers import LogDriver, NetworkDriver
from pannier.drivers.log import LogEntry, LogForm, LogSource
from pannier.drivers.logfile import STDERR, STDOUT
from pannier.drivers.network import Endpoint, EndpointRequest, NetworkSpec
from pannier.plugins import Drivers, load_plugins
from support import authors
from support.pages import blocks

if TYPE_CHECKING:
    from pannier.plugins import DriverRecord

GUIDE = Path(__file__).parent.parent.parent / "docs" / "drivers.md"


SUITE = """
import pytest
from hermit import Hermit, HermitConfig
from pannier.testing import NetworkConformance

pytest_plugins = "pannier.testing.plugin"


class TestHermit(NetworkConformance):
    @pytest.fixture
    def open_driver(self):
        return lambda context: Hermit(context, HermitConfig())
"""


def _code(id: str) -> str:
    """Return the example that has a driver of this id."""
    found: list[str] = re.findall(
        r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL
    )
    [code] = [block for block in found if f'id = "{id}"' in block]
    return code


def _example(id: str, monkeypatch: pytest.MonkeyPatch) -> list[DriverRecord]:
    """Return the rows of the example that has a driver of this id, as a plugin."""
    module = ModuleType(f"{id}_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(_code(id), str(GUIDE), "exec"), module.__dict__)
    return load_plugins([EntryPoint(id, module.__name__, "pannier")])


@pytest.mark.root
def test_the_commands_of_the_beginning_run(tmp_path: Path) -> None:
    """A driver is made, installed, listed and tested, in a new virtual environment."""
    [block] = [block for block in blocks("docs/drivers.md") if block.run_by]
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    authors.furnish(environment)
    (tmp_path / "p.toml").write_text(
        f'[engine]\nroot = "{tmp_path}/r"\nstate = "{tmp_path}/s"\n', encoding="utf-8"
    )
    script = "\n".join(block.commands)
    assert "pip install -e " in script
    done = subprocess.run(
        ["bash", "-eux", "-c", script.replace("pip install -e ", authors.OFFLINE)],
        cwd=tmp_path,
        env=os.environ
        | {
            "PATH": f"{environment}/bin:{os.environ['PATH']}",
            "PANNIER_CONFIG": str(tmp_path / "p.toml"),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == block.text.splitlines()[1]  # what the page shows
    assert any(line.split()[:3] == ["storage", "zfs", "pannier-storage-zfs"] for line in lines)
    assert re.search(r"\d+ passed", lines[-1])


def test_the_example_loads_and_plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is found, passes the checks of its kind, reads its table, and says what it would do."""
    rows = _example("hermit", monkeypatch)
    settings = config.parse(
        f'[engine]\nroot = "{tmp_path}/r"\nstate = "{tmp_path}/s"\n'
        '[network.hermit]\ngreeting = "go away"'
    )
    drivers = Drivers(settings, rows)
    driver = drivers.open(drivers.choose("network"), NetworkDriver)
    request = EndpointRequest("c" * 64, NetworkSpec("hermit", "hermit"))
    plan = driver.plan_attach(request, None)
    assert str(plan.describe()[1]).endswith("go away")
    assert list((tmp_path / "s/network/hermit").iterdir()) == []


@pytest.mark.root
def test_the_example_passes_the_kit(tmp_path: Path) -> None:
    """As it stands there, whole, with no known gap."""
    (tmp_path / "hermit.py").write_text(_code("hermit"), encoding="utf-8")
    (tmp_path / "test_hermit.py").write_text(SUITE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed, \d+ skipped", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 20


def test_a_note_goes_with_its_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each has its own; a new daemon removes those of containers that do not run."""
    settings = config.parse(f'[engine]\nroot = "{tmp_path}/r"\nstate = "{tmp_path}/s"\n')
    drivers = Drivers(settings, _example("hermit", monkeypatch))
    driver = drivers.open(drivers.choose("network"), NetworkDriver)
    requests = [EndpointRequest(name * 64, NetworkSpec("hermit", "hermit")) for name in "abc"]
    for request in requests:
        driver.plan_attach(request, None).operations[1].execute()
    notes = tmp_path / "s/network/hermit"
    assert len(list(notes.iterdir())) == 3
    driver.detach(requests[0], None)
    driver.reconcile([(requests[1], Endpoint("hermit"))])
    assert [note.name for note in notes.iterdir()] == ["b" * 64]


def test_the_log_driver_delivers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was written as an error is in its file, and nothing else."""
    settings = config.parse(f'[engine]\nroot = "{tmp_path}/r"\nstate = "{tmp_path}/s"\n')
    drivers = Drivers(settings, _example("complaints", monkeypatch))
    driver = drivers.open(drivers.choose("log"), LogDriver)
    driver.check({"max-file": "3"})
    assert driver.form({}) == LogForm(1 << 20, 2)
    sink = driver.open(LogSource("c" * 64, "web"), {})
    sink.write([LogEntry(1, STDOUT, b"fine\n"), LogEntry(2, STDERR, b"oh no\n")])
    sink.close()
    assert (tmp_path / "r" / "log" / "complaints" / "web").read_bytes() == b"oh no\n"
