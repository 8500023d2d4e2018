"""The guide's example is a working plugin."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pannier import config
from pannier.drivers import NetworkDriver, Transaction
from pannier.drivers.network import EndpointRequest, NetworkSpec
from pannier.plugins import Drivers, load_plugins

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parent.parent.parent / "docs" / "drivers.md"


def test_the_example_loads_and_attaches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is found, passes the checks of its kind, reads its table, and does what it says."""
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    module = ModuleType("hermit_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code[1], str(GUIDE), "exec"), module.__dict__)
    rows = load_plugins([EntryPoint("hermit", module.__name__, "pannier")])
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
