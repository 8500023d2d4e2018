"""The guide's examples are working plugins."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pannier import config
from pannier.drivers import LogDriver, NetworkDriver, Transaction
from pannier.drivers.log import LogEntry, LogForm, LogSource
from pannier.drivers.logfile import STDERR, STDOUT
from pannier.drivers.network import EndpointRequest, NetworkSpec
from pannier.plugins import Drivers, load_plugins

if TYPE_CHECKING:
    import pytest

    from pannier.plugins import DriverRecord

GUIDE = Path(__file__).parent.parent.parent / "docs" / "drivers.md"


def _example(id: str, monkeypatch: pytest.MonkeyPatch) -> list[DriverRecord]:
    """Return the rows of the example that has a driver of this id, as a plugin."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    [code] = [block for block in blocks if f'id = "{id}"' in block]
    module = ModuleType(f"{id}_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(GUIDE), "exec"), module.__dict__)
    return load_plugins([EntryPoint(id, module.__name__, "pannier")])


def test_the_example_loads_and_attaches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is found, passes the checks of its kind, reads its table, and does what it says."""
    rows = _example("hermit", monkeypatch)
    settings = config.parse(
        f'[engine]\nroot = "{tmp_path}/r"\nstate = "{tmp_path}/s"\n'
        '[network.hermit]\ngreeting = "go away"'
    )
    drivers = Drivers(settings, rows)
    driver = drivers.open(drivers.choose("network"), NetworkDriver)
    request = EndpointRequest("c" * 64, NetworkSpec("hermit", "hermit"))
    plan = driver.plan_attach(request, None)
    assert str(plan.describe()[0]).endswith("go away")
    transaction = Transaction()
    assert transaction.run(plan).endpoint.network == "hermit"
    note = tmp_path / "s" / "network" / "hermit" / "greeting"
    assert note.read_text() == "go away"
    transaction.rollback()
    assert not note.exists()


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
