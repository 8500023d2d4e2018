"""Loading plugins: what a plugin does wrong becomes a row, never a crash."""

from __future__ import annotations

import sys
import threading
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pannier import config
from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    Namespace,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
)
from pannier.drivers.operations import Plan
from pannier.errors import ConfigError, DriverUnavailable
from pannier.hookspecs import DriverHooks, hookimpl
from pannier.plugins import Drivers, load_plugins
from support.fakes import FakeNetwork, FakeResources, FakeRuntime, FakeStorage, FarLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pannier.drivers.base import DriverContext
    from pannier.drivers.log import LogDriver
    from pannier.drivers.resources import ResourceDriver
    from pannier.drivers.runtime import RuntimeDriver
    from pannier.drivers.storage import StorageDriver


class EveryKind:
    """A plugin that implements every hook that there is."""

    @staticmethod
    @hookimpl
    def pannier_storage_drivers() -> list[type[StorageDriver]]:
        return [FakeStorage]

    @staticmethod
    @hookimpl
    def pannier_network_drivers() -> list[type[NetworkDriver]]:
        return [FakeNetwork]

    @staticmethod
    @hookimpl
    def pannier_resource_drivers() -> list[type[ResourceDriver]]:
        return [FakeResources]

    @staticmethod
    @hookimpl
    def pannier_runtime_drivers() -> list[type[RuntimeDriver]]:
        return [FakeRuntime]

    @staticmethod
    @hookimpl
    def pannier_log_drivers() -> list[type[LogDriver]]:
        return [FarLog]


class Fine(NetworkDriver):
    """The least that a network driver is."""

    id: ClassVar[str] = "fine"
    reason: ClassVar[str] = ""

    def __init__(self, context: DriverContext, config: object) -> None:
        self.context, self.config = context, config

    @classmethod
    def probe(cls, context: DriverContext, config: object) -> None:
        assert context.root.is_dir(), config
        if cls.reason:
            raise DriverUnavailable(cls.reason, hint="mend it")

    def namespace(self, argument: str) -> Namespace:
        return Namespace("container", argument) if argument else Namespace("host")

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        return network

    def remove_network(self, network: NetworkSpec) -> None:
        assert network.name

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        assert netns is None or netns >= 0
        return Plan(self.id, [], lambda: Attachment(Endpoint(request.network.id)))

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        assert request.container, netns

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        list(endpoints)


def variant(name: str, **changes: Any) -> type[NetworkDriver]:
    """Return a driver class like Fine, but for *changes*."""
    return type(name, (Fine,), {"__module__": __name__, **changes})


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Callable[..., EntryPoint]:
    """Return a maker of entry points to modules with the given attributes."""

    def make(name: str, **attributes: Any) -> EntryPoint:
        module = ModuleType(f"plugin_{name}")
        for key, value in attributes.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name, module.__name__, "pannier")

    return make


def supplying(*classes: Any) -> Any:
    """Return a hook implementation that supplies network drivers."""

    @hookimpl
    def pannier_network_drivers() -> list[Any]:
        return list(classes)

    return pannier_network_drivers


def test_every_hook_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plugin may bring a driver of each kind, under that kind's hook."""
    module = ModuleType("every_kind")
    hooks = [name for name in vars(DriverHooks) if name.startswith("pannier_")]
    for name in hooks:
        setattr(module, name, getattr(EveryKind, name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    rows = load_plugins([EntryPoint("every", module.__name__, "pannier")])
    assert [row.reason for row in rows] == [""] * len(hooks)
    kinds = {f"pannier_{row.kind.removesuffix('s')}_drivers" for row in rows}
    assert kinds == set(hooks)
    assert all(row.driver is not None and row.driver.kind == row.kind for row in rows)


def test_a_plugins_driver_becomes_a_row(entry: Callable[..., EntryPoint]) -> None:
    """The row has kind and id, and the class to open."""
    (row,) = load_plugins([entry("a", pannier_network_drivers=supplying(Fine))])
    assert (row.kind, row.id, row.driver, row.reason) == ("network", "fine", Fine, "")


def test_a_failing_import_is_a_row_with_its_reason() -> None:
    """The other plugins are loaded all the same."""
    (row,) = load_plugins([EntryPoint("gone", "no_such_module_here", "pannier")])
    assert not row.usable
    assert "no_such_module_here" in row.reason


def test_an_unknown_hook_is_refused_loudly(entry: Callable[..., EntryPoint]) -> None:
    """A hook that does not exist is a plugin for another version, or a spelling mistake."""

    @hookimpl
    def pannier_netwrok_drivers() -> list[Any]:
        return [Fine]

    point = entry("typo", pannier_netwrok_drivers=pannier_netwrok_drivers)
    (row,) = load_plugins([point])
    assert not row.usable
    assert "pannier_netwrok_drivers" in row.reason


def test_a_plugin_without_hooks_is_a_row(entry: Callable[..., EntryPoint]) -> None:
    """Forgetting the decorator is said, not ignored."""
    (row,) = load_plugins([entry("none", pannier_network_drivers=lambda: [Fine])])
    assert "no hook" in row.reason


def test_a_raising_hook_is_a_row(entry: Callable[..., EntryPoint]) -> None:
    """What a hook raises is the row's reason."""

    @hookimpl
    def pannier_network_drivers() -> list[Any]:
        raise ZeroDivisionError("oops")

    (row,) = load_plugins([entry("bad", pannier_network_drivers=pannier_network_drivers)])
    assert row.reason == "ZeroDivisionError: oops"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (int, "no network driver"),
        (variant("Loud", id="LOUD"), "'LOUD'"),
        (variant("Odd", capabilities=frozenset({"publish-it"})), "NetworkCapability"),
        (variant("Cfg", config_type=dict), "config_type must be a dataclass"),
        (NetworkDriver, "does not implement"),
    ],
)
def test_a_class_that_breaks_the_contract_is_a_row(
    entry: Callable[..., EntryPoint], wrong: Any, words: str
) -> None:
    """The good class beside it stays usable."""
    good = variant("Good", id="good", capabilities=frozenset({NetworkCapability.LIVE}))
    rows = load_plugins([entry("mix", pannier_network_drivers=supplying(wrong, good))])
    assert [row.usable for row in rows] == [False, True]
    assert words in rows[0].reason


def test_two_drivers_with_one_id_are_both_refused(entry: Callable[..., EntryPoint]) -> None:
    """Neither silently replaces the other."""
    rows = load_plugins(
        [
            entry("one", pannier_network_drivers=supplying(Fine)),
            entry("two", pannier_network_drivers=supplying(variant("Other"))),
        ]
    )
    assert [row.usable for row in rows] == [False, False]
    assert "two network drivers have the id 'fine'" in rows[0].reason


def test_a_hook_that_will_go_warns_and_works(
    entry: Callable[..., EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a release, as the promise of stability has it: the author is told what to use."""
    opts: Any = DriverHooks.pannier_network_drivers
    deprecated = DeprecationWarning("use pannier_link_drivers in its place")
    monkeypatch.setitem(opts.pannier_spec, "warn_on_impl", deprecated)
    point = entry("old", pannier_network_drivers=supplying(Fine))
    with pytest.warns(DeprecationWarning, match="use pannier_link_drivers"):
        (row,) = load_plugins([point])
    assert row.usable


STRANGER = """
from pannier.hookspecs import hookimpl
from pannier_storage_vfs import pannier_storage_drivers as theirs

@hookimpl
def pannier_storage_drivers():
    (vfs,) = theirs()
    return [type("Overlay", (vfs,), {"id": "overlay", "priority": 1000, "__module__": __name__})]
"""


def install(folder: Path, name: str, point: str, code: str) -> None:
    """Put a distribution with one module, called as it is, into a folder of the path."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[pannier]\n{point} = {name}\n")
    (folder / f"{name}.py").write_text(code)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a driver that calls itself as one of Pannier's own, its entry point as well."""
    install(tmp_path, "stranger", "storage_overlay", STRANGER)
    monkeypatch.syspath_prepend(str(tmp_path))  # before Pannier's: it is found first
    yield
    sys.modules.pop("stranger", None)


@pytest.mark.usefixtures("stranger")
def test_pannier_keeps_the_ids_of_its_own_drivers(tmp_path: Path) -> None:
    """A stranger that takes one is refused, and told so; what the user configured stays."""
    rows = [row for row in load_plugins(kind="storage") if row.id == "overlay"]
    owners = {row.distribution: row for row in rows}
    assert owners["pannier"].usable
    refused = owners["stranger"]
    assert not refused.usable
    assert "'overlay' is that of a storage driver of pannier's own" in refused.reason
    assert "uninstall stranger" in refused.hint
    text = '[drivers]\nstorage = "overlay"\n[storage.overlay]\ncolour = 1\n'
    drivers = Drivers(config.parse(f'[engine]\nroot = "{tmp_path}"\n{text}'))
    chosen = drivers.check_installed("storage")
    assert chosen is not None
    assert chosen.distribution == "pannier"
    with pytest.raises(ConfigError, match="colour"):
        drivers.check_tables()


def test_names_of_entry_points_are_each_distributions_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two distributions may call theirs alike."""
    for name in ("first", "second"):
        code = STRANGER.replace('"id": "overlay"', f'"id": "{name}"')
        install(tmp_path, name, "driver", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = {row.id: row for row in load_plugins(kind="storage")}
    assert rows["first"].usable
    assert rows["second"].usable


def settings(tmp_path: Path, network: str = "auto") -> config.Config:
    """Return a configuration with folders below tmp_path."""
    return config.parse(
        f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n'
        f'[drivers]\nnetwork = "{network}"'
    )


def test_auto_picks_the_best_usable_driver(
    entry: Callable[..., EntryPoint], tmp_path: Path
) -> None:
    """A driver of higher priority that cannot work here is passed over, with its reason kept."""
    low, high = variant("Low", id="low", priority=1), variant("Mid", id="mid", priority=2)
    broken = variant("Top", id="top", priority=3, reason="no such device")
    rows = load_plugins([entry("x", pannier_network_drivers=supplying(low, broken, high))])
    drivers = Drivers(settings(tmp_path), rows)
    assert drivers.choose("network").id == "mid"
    assert next(row for row in drivers.records if row.id == "top").reason == "no such device"


def test_a_configured_driver_that_cannot_work_is_an_error(
    entry: Callable[..., EntryPoint], tmp_path: Path
) -> None:
    """The driver's own reason and hint are passed on; nothing else is used in its place."""
    broken = variant("Top", id="top", reason="no such device")
    rows = load_plugins([entry("x", pannier_network_drivers=supplying(broken, Fine))])
    with pytest.raises(DriverUnavailable, match="no such device") as caught:
        Drivers(settings(tmp_path, "top"), rows).choose("network")
    assert caught.value.hint == "mend it"


def test_a_configured_driver_that_is_not_installed_is_an_error(
    entry: Callable[..., EntryPoint], tmp_path: Path
) -> None:
    """The error lists what is installed."""
    rows = load_plugins([entry("x", pannier_network_drivers=supplying(Fine))])
    with pytest.raises(ConfigError, match="'fin'") as caught:
        Drivers(settings(tmp_path, "fin"), rows).choose("network")
    assert caught.value.hint == "installed: fine"


def test_a_probe_that_raises_anything_makes_a_row(
    entry: Callable[..., EntryPoint], tmp_path: Path
) -> None:
    """A stranger's bug does not stop the daemon."""

    def probe(_context: DriverContext, _config: object) -> None:
        raise ZeroDivisionError("oops")

    buggy = variant("Buggy", id="buggy", priority=9, probe=staticmethod(probe))
    rows = load_plugins([entry("x", pannier_network_drivers=supplying(buggy, Fine))])
    drivers = Drivers(settings(tmp_path), rows)
    assert drivers.choose("network").id == "fine"


def test_a_table_for_a_driver_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    """A misspelt table would otherwise be ignored in silence."""
    read = config.parse(f'[engine]\nroot = "{tmp_path}"\n[network.brigde]\nmtu = 1')
    with pytest.raises(ConfigError, match=r"network\.brigde"):
        Drivers(read, []).check_tables()


def test_a_table_is_let_be_where_a_plugin_cannot_be_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be that plugin's, whose driver nobody knows; the other drivers are there."""
    read = config.parse(f'[engine]\nroot = "{tmp_path}"\n[network.gone]\nmtu = 1')
    rows = load_plugins([EntryPoint("gone", "no_such_module_here", "pannier")])
    Drivers(read, rows).check_tables()
    assert "[network.gone] is not looked at" in caplog.text


def test_every_built_in_driver_keeps_the_contract() -> None:
    """The installed distribution's own rows have a class each."""
    rows = [row for row in load_plugins() if row.distribution == "pannier"]
    assert {row.kind for row in rows} == {"storage", "network", "resources", "runtime", "log"}
    assert [row.reason for row in rows if row.driver is None] == []


def hang(*_: object) -> Any:
    """Never come back, as long as the process lives."""
    threading.Event().wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everybody wait for a moment only."""
    for module in ("loading", "plugins"):
        monkeypatch.setattr(f"pannier.{module}.LOADING", 0.2)


@pytest.mark.usefixtures("impatient")
def test_an_import_that_hangs(
    monkeypatch: pytest.MonkeyPatch, entry: Callable[..., EntryPoint]
) -> None:
    """It is a row that says where; the other plugins are loaded."""
    good = entry("good", pannier_network_drivers=supplying(Fine))
    slow = entry("slow", pannier_network_drivers=supplying(variant("Slow", id="slow")))
    load = EntryPoint.load
    monkeypatch.setattr(
        EntryPoint, "load", lambda point: hang() if point.name == "slow" else load(point)
    )
    rows = {row.id: row for row in load_plugins([slow, good])}
    assert "importing it did not end within 0.2 s; it hangs in " in rows["slow"].reason
    assert "threading.py" in rows["slow"].reason
    assert rows["fine"].usable


def test_a_plugin_that_would_end_the_process(
    monkeypatch: pytest.MonkeyPatch, entry: Callable[..., EntryPoint]
) -> None:
    """``sys.exit()`` at import is a row as any other failure."""
    point = entry("leaving", pannier_network_drivers=supplying(Fine))
    monkeypatch.setattr(EntryPoint, "load", lambda _: sys.exit(3))
    (row,) = load_plugins([point])
    assert row.reason == "importing it raised SystemExit: 3"


@pytest.mark.parametrize(
    ("attribute", "said"), [("capabilities", "must be a set of members"), ("priority", "no number")]
)
def test_an_attribute_that_is_something_else(
    entry: Callable[..., EntryPoint], attribute: str, said: str
) -> None:
    """The class is a row with the reason; the one beside it is examined, too."""
    wrong = variant("Wrong", id="wrong", **{attribute: None})
    rows = load_plugins([entry("both", pannier_network_drivers=supplying(wrong, Fine))])
    assert [(row.id, row.usable) for row in rows] == [("wrong", False), ("fine", True)]
    assert said in rows[0].reason


@pytest.mark.usefixtures("impatient")
def test_a_hook_and_a_probe_that_hang(tmp_path: Path, entry: Callable[..., EntryPoint]) -> None:
    """Each is a row with the reason, and costs nobody else anything."""
    probing = variant("Probing", id="probing", probe=classmethod(hang))
    rows = load_plugins(
        [
            entry("hook", pannier_network_drivers=hookimpl(hang)),
            entry("probe", pannier_network_drivers=supplying(probing)),
            entry("good", pannier_network_drivers=supplying(Fine)),
        ]
    )
    drivers = Drivers(config.parse(f'[engine]\nroot = "{tmp_path}"\nstate = "{tmp_path}"'), rows)
    reasons = {row.id: row.reason for row in drivers.probe_all()}
    assert "its hook did not end" in reasons["hook"]
    assert "probing it did not end" in reasons["probing"]
    assert reasons["fine"] == ""


def refuse(*_: object) -> None:
    """Be no driver at all."""
    raise RuntimeError("no")


@pytest.mark.parametrize("build", [hang, refuse])
def test_a_driver_that_cannot_be_opened_is_left_out(
    build: Any, tmp_path: Path, entry: Callable[..., EntryPoint]
) -> None:
    """Unless it is the chosen one, without which nothing could be done."""
    bad = variant("Bad", id="bad", __init__=build)
    settings = config.parse(
        f'[engine]\nroot = "{tmp_path}"\nstate = "{tmp_path}"\n[drivers]\npatience = 0.2'
    )
    rows = load_plugins([entry("both", pannier_network_drivers=supplying(bad, Fine))])
    drivers = Drivers(settings, rows)
    assert list(drivers.open_all("network", NetworkDriver)) == ["fine"]
    (left_out,) = [row for row in drivers.records if row.id == "bad"]
    assert not left_out.usable
    alone = Drivers(settings, load_plugins([entry("o", pannier_network_drivers=supplying(bad))]))
    assert alone.open_all("network", NetworkDriver) == {}
    with pytest.raises(DriverUnavailable, match=r"could not be opened|did not end"):
        alone.choose("network")


@pytest.mark.parametrize("build", [hang, refuse])
def test_the_next_best_is_used_where_the_best_cannot_be_opened(
    build: Any, tmp_path: Path, entry: Callable[..., EntryPoint]
) -> None:
    """Unless the user has named it: then nothing else is used in its place."""
    bad = variant("Bad", id="bad", __init__=build, priority=9)
    rows = load_plugins([entry("both", pannier_network_drivers=supplying(bad, Fine))])
    text = f'[engine]\nroot = "{tmp_path}"\nstate = "{tmp_path}"\n[drivers]\npatience = 0.2\n'
    drivers = Drivers(config.parse(text), list(rows))
    assert drivers.choose("network").id == "bad"
    assert drivers.open_best("network", NetworkDriver).id == "fine"
    assert drivers.choose("network").id == "fine"
    named = Drivers(config.parse(f'{text}network = "bad"\n'), list(rows))
    with pytest.raises(DriverUnavailable, match=r"could not be opened|did not end"):
        named.open_best("network", NetworkDriver)
