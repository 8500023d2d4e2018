"""Plugins that cannot be loaded, tried or opened are rows with a reason, and nothing else."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pannier.bounded import within
from pannier.config import Config
from pannier.errors import DriverUnavailable
from pannier.hookspecs import hookimpl
from pannier.plugins import DriverRecord, Drivers, load_plugins
from support.bad_drivers import spoiled
from support.fakes import FakeNetwork, FakeResources

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 0.2

SOURCES: dict[str, str] = {
    "syntax": "def :",
    "import": "import nothing_of_that_name",
    "raise": "raise ValueError('no')",
    "exit": "import sys; sys.exit(3)",
    "interrupt": "raise KeyboardInterrupt",
    "base": "class Odd(BaseException): pass\nraise Odd('odd')",
    "generator-exit": "raise GeneratorExit",
    "recursion": "def f(): f()\nf()",
    "memory": "raise MemoryError",
    "wordless": "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E",
    "null": "a = 1\0",
    "hang": "import threading; threading.Event().wait()",
    "no-hook": "x = 1",
    "unknown-hook": "@hookimpl\ndef pannier_teapot_drivers(): return []",
    "hook-none": "@hookimpl\ndef pannier_network_drivers(): return None",
    "hook-number": "@hookimpl\ndef pannier_network_drivers(): return 7",
    "hook-raises": "@hookimpl\ndef pannier_network_drivers(): raise KeyError('x')",
    "hook-exits": "@hookimpl\ndef pannier_network_drivers(): raise SystemExit(0)",
    "hook-hangs": "@hookimpl\ndef pannier_network_drivers():\n    import threading\n"
    "    threading.Event().wait()",
    "hook-endless": "class Bad(Good): pass\nimport itertools\n@hookimpl\n"
    "def pannier_network_drivers(): return itertools.repeat(Bad)\n",
    "hook-endless-generator": "class Bad(Good): pass\n@hookimpl\n"
    "def pannier_network_drivers():\n    while True:\n        yield Bad\n",
    "hook-generator": "@hookimpl\ndef pannier_network_drivers():\n    yield 1 / 0",
    "hook-arguments": "@hookimpl\ndef pannier_network_drivers(what): return []",
    "hook-instances": "@hookimpl\ndef pannier_network_drivers(): return [object()]",
    "hook-text": "@hookimpl\ndef pannier_network_drivers(): return ['bad']",
    "other-kind": "@hookimpl\ndef pannier_storage_drivers(): return [Good]",
    "abstract": "class Bad(NetworkDriver):\n    id = 'bad'",
    "id-none": "class Bad(Good):\n    id = None",
    "id-long": "class Bad(Good):\n    id = 'x' * 33",
    "id-path": "class Bad(Good):\n    id = '../up'",
    "id-raises": "class Meta(type(Good)):\n    @property\n    def id(cls): raise OSError('id')\n"
    "class Bad(Good, metaclass=Meta): pass\ndel Good.id",
    "capabilities-none": "class Bad(Good):\n    capabilities = None",
    "capabilities-texts": "class Bad(Good):\n    capabilities = frozenset({'publish'})",
    "capabilities-list": "class Bad(Good):\n    capabilities = []",
    "priority": "class Bad(Good):\n    priority = 'high'",
    "metaclass-hangs": "import threading\nclass Meta(type(Good)):\n    @property\n    def id(cls): "
    "threading.Event().wait()\nclass Bad(Good, metaclass=Meta): pass\ndel Good.id",
    "capabilities-hang": "class Bad(Good):\n    capabilities = map(id, [])",
    "module-attribute": "@hookimpl\ndef pannier_network_drivers(): return []\n"
    "def __dir__(): raise SystemExit(2)",
    "config-type": "class Bad(Good):\n    config_type = dict",
    "config-default": "@dataclass(frozen=True)\nclass C:\n    x: int = "
    "field(default_factory=lambda: 1 // 0)\nclass Bad(Good):\n    config_type = C",
    "config-needed": "@dataclass(frozen=True)\nclass C:\n    x: int\n"
    "class Bad(Good):\n    config_type = C",
    "config-hangs": "import threading\n@dataclass(frozen=True)\nclass C:\n"
    "    x: int = field(default_factory=lambda: threading.Event().wait())\n"
    "class Bad(Good):\n    config_type = C",
    "probe-raises": "class Bad(Good):\n    @classmethod\n    def probe(cls, *_): raise KeyError",
    "probe-exits": "class Bad(Good):\n    @classmethod\n    def probe(cls, *_): raise SystemExit",
    "probe-config-error": "from pannier.errors import ConfigError\nclass Bad(Good):\n"
    "    @classmethod\n    def probe(cls, *_): raise ConfigError('yours')",
    "opening-config-error": "from pannier.errors import ConfigError\nclass Bad(Good):\n"
    "    def __init__(self, *_): raise ConfigError('yours')",
    "probe-hangs": "class Bad(Good):\n    @classmethod\n    def probe(cls, *_):\n"
    "        import threading\n        threading.Event().wait()",
    "probe-signature": "class Bad(Good):\n    @classmethod\n    def probe(cls): pass",
    "opening-raises": "class Bad(Good):\n    def __init__(self, *_): raise IndexError",
    "opening-exits": "class Bad(Good):\n    def __init__(self, *_): raise SystemExit",
    "opening-hangs": "class Bad(Good):\n    def __init__(self, *_):\n        import threading\n"
    "        threading.Event().wait()",
    "probe-error-message": "from pannier.errors import DriverUnavailable\nclass Bad(Good):\n"
    "    @classmethod\n    def probe(cls, *_): raise DriverUnavailable(OSError(5, 'x'))",
    "probe-wordless": "from pannier.errors import DriverUnavailable\nclass Bad(Good):\n"
    "    priority = 99\n    @classmethod\n"
    "    def probe(cls, *_): raise DriverUnavailable(str(TimeoutError()))",
    "probe-blank": "from support.bad_drivers import spoiled\n"
    "from pannier.errors import DriverUnavailable\nclass Bad(Good):\n    priority = 99\n"
    "    @classmethod\n"
    "    def probe(cls, *_): raise spoiled(DriverUnavailable('x'), message=' ')",
    "opening-wordless": "from pannier.errors import DriverUnavailable\nclass Bad(Good):\n"
    "    priority = 99\n    def __init__(self, *_): raise DriverUnavailable(str(KeyError()))",
    "opening-blank": "from support.bad_drivers import spoiled\n"
    "from pannier.errors import DriverUnavailable\nclass Bad(Good):\n    priority = 99\n"
    "    def __init__(self, *_): raise spoiled(DriverUnavailable('x'), message='')",
    "probe-message-set": "from pannier.errors import DriverUnavailable\nclass Bad(Good):\n"
    "    @classmethod\n    def probe(cls, *_):\n        error = DriverUnavailable('x')\n"
    "        error.message = OSError()\n        raise error",
    "probe-bare": "from support.bad_drivers import Bare\nclass Bad(Good):\n"
    "    @classmethod\n    def probe(cls, *_): raise Bare",
    "opening-bare": "from support.bad_drivers import Bare\nclass Bad(Good):\n"
    "    def __init__(self, *_): raise Bare",
    "opening-bare-refusal": "from support.bad_drivers import BareRefusal\nclass Bad(Good):\n"
    "    def __init__(self, *_): raise BareRefusal",
    "import-mute": "from support.bad_drivers import Mute\nraise Mute('x')",
    "hook-bare": "from support.bad_drivers import Bare\n@hookimpl\n"
    "def pannier_network_drivers(): raise Bare",
    "opening-else": "class Bad(Good):\n    def __new__(cls, *_): return 7",
}
"""The source of each plugin. One that says no more than a class ``Bad`` is given its hook."""

TOLD = {
    "hook-endless": "goes on after 1000 drivers",
    "hook-endless-generator": "goes on after 1000 drivers",
}
"""What the reason of some has to say."""

_BEFORE = """
from dataclasses import dataclass, field
from pannier.drivers.network import NetworkDriver
from pannier.hookspecs import hookimpl
from support.fakes import FakeNone
class Good(FakeNone):
    id = "bad"
    def __init__(self, *_): pass
"""
_HOOK = "\n@hookimpl\ndef pannier_network_drivers(): return [Bad]\n"


class GoodNetwork(FakeNetwork):
    """A network driver that can be opened as the engine opens one."""

    id = "good"

    def __init__(self, *_: object) -> None:
        """Hold nothing."""


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> EntryPoint:
    """Return the entry point of a plugin without a fault."""
    module = ModuleType("good_plugin")
    hook = hookimpl(lambda: [GoodNetwork], specname="pannier_network_drivers")
    module.pannier_network_drivers = hook  # type: ignore[attr-defined] # as a plugin does
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return EntryPoint("good", module.__name__, "pannier")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return a configuration of folders of the test's own, and little patience."""
    for module in ("loading", "plugins"):
        monkeypatch.setattr(f"pannier.{module}.LOADING", PATIENCE)
    default = Config()
    return replace(
        default,
        engine=replace(default.engine, root=tmp_path / "root", state=tmp_path / "state"),
        drivers=replace(default.drivers, patience=PATIENCE),
    )


@pytest.mark.parametrize("name", SOURCES)
def test_a_bad_plugin_is_a_row_with_a_reason(
    name: str, tmp_path: Path, config: Config, good: EntryPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does when it is loaded, probed and opened; the good one behind it is opened."""
    source = SOURCES[name]
    if "class Bad" in source:
        source = _BEFORE + source + ("" if "hookimpl" in source else _HOOK)
    elif "hookimpl" in source:
        source = _BEFORE + source
    module = f"bad_plugin_{name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    bad_point = EntryPoint("bad", module, "pannier")
    drivers = Drivers(config, load_plugins([bad_point, good]))
    drivers.check_tables()
    drivers.probe_all()
    assert list(drivers.open_all("network", FakeNetwork)) == ["good"]
    assert drivers.choose("network").id == "good"
    (bad,) = [row for row in drivers.records if row.id != "good"]
    assert not bad.usable
    assert bad.reason.strip()
    assert TOLD.get(name, "") in bad.reason
    assert json.dumps([bad.reason, bad.hint])
    assert json.dumps([call.row() for call in drivers.trace.calls])
    assert bad.plugin == "bad"


def test_the_best_is_not_tried_again_when_it_fails_without_a_word(config: Config) -> None:
    """Opening comes to an end, and the next best is opened."""

    class Loud(FakeResources):
        id = "loud"

        def __init__(self, *_: object) -> None:
            """Hold nothing."""

    class Wordless(Loud):
        id = "wordless"
        priority = 99

        def __init__(self, *_: object) -> None:
            raise spoiled(DriverUnavailable("x"), message="")

    rows = [DriverRecord("resources", cls.id, driver=cls) for cls in (Wordless, Loud)]
    drivers = Drivers(config, rows)
    best = within(30.0, "opening the best", lambda: drivers.open_best("resources", FakeResources))
    assert type(best) is Loud
    assert drivers.choose("resources").id == "loud"


def test_strangers_that_hang_do_not_add_up(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are opened side by side, and no longer than one that nobody named may take."""
    never, together = threading.Event(), threading.Barrier(5)

    class Hanging(GoodNetwork):
        def __init__(self, *_: object) -> None:
            together.wait(30)
            began.append(1)
            never.wait()

    began: list[int] = []
    monkeypatch.setattr("pannier.plugins.LOADING", 1.0)
    hanging: list[Any] = [type(f"Hanging{n}", (Hanging,), {"id": f"hanging{n}"}) for n in range(5)]
    rows = [DriverRecord("network", cls.id, driver=cls) for cls in (*hanging, GoodNetwork)]
    rows.append(DriverRecord("network", "good").failed(DriverUnavailable("another's id")))
    patient = replace(config, drivers=replace(config.drivers, patience=3600.0))
    drivers = Drivers(patient, rows)
    try:
        assert list(drivers.open_all("network", FakeNetwork)) == ["good"]
    finally:
        never.set()
    assert len(began) == 5  # the barrier would not have let them through one after another
    reasons = [row.reason for row in drivers.records if row.id != "good"]
    assert len(reasons) == 5
    assert all("did not end within 1 s" in reason for reason in reasons)


METADATA = {
    "no-metadata": {"entry_points.txt": "[pannier]\nbad = nothing_of_that_name\n"},
    "empty": {"METADATA": "", "entry_points.txt": "[pannier]\nbad = nothing_of_that_name\n"},
    "no-module": {"METADATA": "Name: bad\nVersion: 1\n", "entry_points.txt": "[pannier]\nbad\n"},
    "odd-value": {
        "METADATA": "Name: bad\nVersion: 1\n",
        "entry_points.txt": "[pannier]\nbad = :::\n",
    },
    "odd-bytes": {
        "METADATA": "Name: bad\nVersion: 1\n",
        "entry_points.txt": "[pannier]\nb\xff = x\n",
    },
}
"""What a distribution's folder beside its code may have in it."""


@pytest.mark.parametrize("name", METADATA)
def test_a_broken_distribution_hides_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metadata are a stranger's, too: the built-in drivers are found beside it."""
    folder = tmp_path / "bad-1.dist-info"
    folder.mkdir()
    for file, text in METADATA[name].items():
        (folder / file).write_bytes(text.encode("latin-1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = load_plugins()
    good = [row for row in rows if row.distribution == "pannier"]
    assert {row.kind for row in good} == {"storage", "network", "resources", "runtime", "log"}
    (bad,) = [row for row in rows if row not in good]
    assert not bad.usable
    assert bad.reason
