"""A real daemon among bad plugins, installed as strangers' are: an entry point beside the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.daemon import Daemon, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

PLUGINS = {
    "unloadable": "import nothing_of_that_name",
    "leaving": "raise SystemExit(3)",
    "hookless": """
from pannier.hookspecs import hookimpl

@hookimpl
def pannier_network_drivers():
    raise KeyboardInterrupt
""",
    # What `auto` would choose first, and cannot be opened.
    "boastful": """
from pannier_cgroup_v1.driver import CgroupV1
from pannier_storage_vfs.driver import VfsStorage
from pannier.hookspecs import hookimpl

class Resources(CgroupV1):
    id = "boastful"
    priority = 1000
    @classmethod
    def probe(cls, context, config): pass
    def __init__(self, context, config): raise SystemExit(4)

class Storage(VfsStorage):
    id = "boastful"
    priority = 1000
    def __init__(self, context, config): raise ZeroDivisionError("on purpose")

@hookimpl
def pannier_resource_drivers():
    return [Resources]

@hookimpl
def pannier_storage_drivers():
    return [Storage]
""",
    "stormy": """
import sys
import threading
from pannier.drivers import Action, Plan, Step
from pannier.hookspecs import hookimpl
from pannier_net_none.driver import NoneDriver

class Stormy(NoneDriver):
    id = "stormy"
    def plan_attach(self, request, netns):
        return Plan(self.id, [Action(Step("do", "harm"), sys.exit)], lambda: None)
    def detach(self, request, netns):
        raise GeneratorExit

class Becalmed(NoneDriver):
    id = "becalmed"
    def plan_attach(self, request, netns):
        threading.Event().wait()
    def reconcile(self, endpoints):
        raise LookupError("where am I?")

class Adrift(NoneDriver):
    id = "adrift"
    def namespace(self, argument):
        return None
    def create_network(self, network):
        return "done"

@hookimpl
def pannier_network_drivers():
    return [Stormy, Becalmed, Adrift]
""",
    "sulky": """
from pannier_runtime_native.driver import NativeRuntime
from pannier.drivers.runtime import RuntimeWatch
from pannier.hookspecs import hookimpl

class Watch(RuntimeWatch):
    def __init__(self, watch): self._watch = watch
    def fileno(self): return self._watch.fileno()
    def read(self): raise SystemExit("not today")
    def close(self): self._watch.close()

class Sulky(NativeRuntime):
    id = "sulky"
    priority = 0
    def watch(self, id):
        return Watch(super().watch(id))

@hookimpl
def pannier_runtime_drivers():
    return [Sulky]
""",
}
"""The code of each plugin, by the name of its distribution and module."""


@pytest.fixture
def among_bad_plugins(
    tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Daemon]:
    """Give a daemon that has them all, with the image busybox and little patience."""
    for name, code in PLUGINS.items():
        (tmp_path / f"bad_{name}.py").write_text(code)
        metadata = tmp_path / f"bad_{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bad-{name}\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(f"[pannier]\n{name} = bad_{name}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = Daemon(drivers="patience = 2.0")
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        yield daemon
    finally:
        daemon.close()
    assert leftovers(daemon) == []


def test_a_daemon_among_bad_plugins(among_bad_plugins: Daemon) -> None:
    """It serves, says what is wrong with each, and a container on good drivers lives on."""
    daemon = among_bad_plugins
    daemon.cli("run", "-d", "--name", "beside", "--init", "busybox", "sleep", "1000")
    pid = daemon.inspect("beside")["State"]["Pid"]

    log = daemon.log.read_text()
    assert "the plugin 'unloadable' is left out: ModuleNotFoundError" in log
    assert "the resources driver 'boastful' is left out: opening it raised SystemExit: 4" in log
    assert "the storage driver 'boastful' could not be opened: ZeroDivisionError" in log
    assert "the network adrift could not be made" not in log  # it was never to stand alone

    for network, words in {
        "stormy": "the network driver 'stormy' failed in an operation of plan_attach(): SystemExit",
        "becalmed": "the network driver 'becalmed' in plan_attach() did not answer within 2 s",
        "adrift": "network adrift not found",
    }.items():
        refused = daemon.cli("run", "--rm", "--network", network, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert words in refused.stderr
    assert "hint: a fault of the driver's" in (
        daemon.cli("run", "--rm", "--network", "stormy", "busybox", "true", check=False).stderr
    )

    # The runtime whose watch fails: its container runs, and its end is known.
    ended = daemon.cli(
        "run", "--runtime", "sulky", "--name", "sulky", "busybox", "sh", "-c", "exit 7", check=False
    )
    assert ended.returncode == 7
    assert "the watch of its runtime sulky broke" in daemon.log.read_text()

    # A new daemon takes over what runs.
    daemon.kill()
    daemon.start()
    assert (
        "the network driver 'becalmed' failed in reconcile(): LookupError" in daemon.log.read_text()
    )
    state = daemon.inspect("beside")["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    assert daemon.cli("run", "--rm", "busybox", "echo", "well").stdout == "well\n"
    assert daemon.cli("exec", "beside", "echo", "well").stdout == "well\n"


def test_a_daemon_ends_while_a_plugin_hangs(tmp_path: Path) -> None:
    """SIGTERM ends it although it is not through with opening the drivers yet."""
    code = "import sys, threading\nprint('it hangs', file=sys.stderr, flush=True)\n"
    (tmp_path / "bad_hanging.py").write_text(code + "threading.Event().wait()\n")
    metadata = tmp_path / "bad_hanging-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-hanging\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pannier]\nhanging = bad_hanging\n")
    config = tmp_path / "config.toml"
    config.write_text(f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n')
    command = ["unshare", "--net", sys.executable, "-m", "pannier.daemon", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as daemon:
        assert daemon.stderr is not None
        try:
            assert b"it hangs\n" in iter(daemon.stderr.readline, b"")
            daemon.terminate()
            _, said = daemon.communicate(timeout=20)
        finally:
            daemon.kill()
    assert daemon.returncode == 0
    assert b"stopping before the drivers are open" in said


def test_the_command_line_says_what_is_wrong(among_bad_plugins: Daemon) -> None:
    """``pannier drivers`` has a row for each, and ``doctor`` warns; good ones are chosen."""
    daemon = among_bad_plugins
    listed = daemon.cli("--config", str(daemon.config), "drivers", "--format", "json").stdout
    rows = [json.loads(line) for line in listed.splitlines()]
    reasons = {row["Id"]: row["Reason"] for row in rows if row["Distribution"].startswith("bad-")}
    assert "nothing_of_that_name" in reasons["unloadable"]
    assert reasons["leaving"] == "importing it raised SystemExit: 3"
    assert reasons["hookless"] == "its hook raised KeyboardInterrupt"
    assert {row["Id"] for row in rows if row["Chosen"]} >= {"bridge", "native", "json-file"}
    traced = daemon.cli("drivers", "--trace").stdout.splitlines()
    assert traced[0].split() == ["PLUGIN", "CALL", "DRIVER", "TIME", "ERROR"]
    calls = {tuple(line.split()[:4]): line for line in traced[1:-1]}
    assert ("net_bridge", "open", "network", "bridge") in calls
    assert "ZeroDivisionError" in calls["boastful", "open", "storage", "boastful"]
    assert re.fullmatch(r"\d+ calls in [\d.]+ ms: import .* open [\d.]+ ms", traced[-1])
    found = daemon.cli("--config", str(daemon.config), "doctor", check=False).stdout
    assert "plugin unloadable: " in found
