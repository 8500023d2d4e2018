"""``pannier conformance`` runs the kit on whatever driver is installed, and reports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

import pannier
from pannier.cli.__main__ import run
from pannier.testing.reports import FORMATS, summary
from pannier.testing.runner import KITS, Report, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.root

TESTS = Path(__file__).parent.parent.parent

PLUGIN = """
from pannier.hookspecs import hookimpl
from support.kit_subjects.storage import CountsTheLayersBelow
from support.reference_network import ReferenceNetwork
from support.reference_storage import ReferenceStorage


class Wrong(CountsTheLayersBelow):
    id = "wrong"


@hookimpl
def pannier_storage_drivers():
    return [ReferenceStorage, Wrong]


@hookimpl
def pannier_network_drivers():
    return [ReferenceNetwork]
"""


ANNOUNCEMENT = """
from pannier.testing import StorageConformance, announced

announced(since="0.1", required="99.0")(StorageConformance.test_usage_is_the_layers_own)
"""
"""As if the kit announced the test that the wrong driver fails."""


def install(tmp_path: Path, code: str) -> Path:
    """Install a distribution of one module; return the folder for Python's path."""
    site = tmp_path / "site"
    info = site / "pannier_strange-1.2.3.dist-info"
    info.mkdir(parents=True)
    (site / "pannier_strange.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pannier-strange\nVersion: 1.2.3\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text("[pannier]\nstrange = pannier_strange\n", "utf-8")
    return site


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Install a right and a wrong storage driver, and a network driver."""
    return install(tmp_path, PLUGIN)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Give a configuration whose folders are the test's own, one of which is there already."""
    (tmp_path / "engine").mkdir()
    file = tmp_path / "pannier.toml"
    file.write_text(
        f'[engine]\nroot = "{tmp_path}/engine"\nstate = "{tmp_path}/state"\n', encoding="utf-8"
    )
    return file


def command(
    settings: Path, words: Sequence[str], *, site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, where pytest's settings are a trap."""
    trap = settings.parent / "trap"
    trap.mkdir(exist_ok=True)
    (trap / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    (trap / "conftest.py").write_text("raise RuntimeError('was read')\n", encoding="utf-8")
    path = [str(site or ""), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "pannier.cli", "--config", str(settings), "conformance", *words],
        env={**os.environ, "PYTHONPATH": ":".join(path), "PYTEST_ADDOPTS": "--no-such-option"},
        cwd=trap,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_right_driver(settings: Path, installed: Path) -> None:
    """All tests pass: the status is 0; the JSON says what was tested, with every version."""
    done = command(settings, ["storage", "reference", "--format", "json"], site=installed)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["Failed"] == 0
    assert report["Passed"] > 80
    assert len(report["Tests"]) == report["Passed"] + report["NotApplicable"]
    assert (report["Kind"], report["Driver"]) == ("storage", "reference")
    assert (report["Distribution"], report["Version"]) == ("pannier-strange", "1.2.3")
    assert report["Capabilities"] == ["external-rootfs", "size-limit"]
    assert report["Kit"] == pannier.__version__
    assert report["Kernel"] == f"Linux {os.uname().release}"
    assert all(test["Title"].endswith(".") for test in report["Tests"])
    reasons = {test["Reason"] for test in report["Tests"] if test["Result"] == "not applicable"}
    assert "the driver does not declare idmap" in reasons
    assert {path.name for path in (settings.parent / "engine").iterdir()} == {"storage"}


def test_a_wrong_driver(settings: Path, installed: Path) -> None:
    """One failed test is the status 1; the report goes to the file that was named."""
    output = settings.parent / "report.xml"
    words = ["storage", "wrong", "--format", "junit", "--output", str(output)]
    done = command(settings, words, site=installed)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("storage driver wrong: ")
    assert done.stdout.endswith(f"; see {output}\n")
    suite = ET.parse(output).getroot()[0]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert "test_usage_is_the_layers_own" in failed
    assert len(failed) == int(suite.get("failures", "")) < 8
    failure = cases["test_usage_is_the_layers_own"].find("failure")
    assert failure is not None
    assert "assert" in (failure.text or "")
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties["distribution"] == "pannier-strange"
    assert (properties["version"], properties["kit"]) == ("1.2.3", pannier.__version__)


LEAKS = """
from pannier.hookspecs import hookimpl
from pannier.linux.mounts import MS_BIND, mount
from pannier.testing import StorageConformance
from support.reference_storage import ReferenceStorage

StorageConformance.patience = 0.1
waiting = [PRECIOUS]


class Leaks(ReferenceStorage):
    id = "leaks"

    def create_layer(self, chain_id, parent, diff):
        if waiting:
            point = self.root / "point"
            point.mkdir()
            mount(waiting.pop(), point, None, MS_BIND)
        return super().create_layer(chain_id, parent, diff)


@hookimpl
def pannier_storage_drivers():
    return [Leaks]
"""
"""A driver that leaves a mount, once, so that its tests do not take long."""


def test_a_leaked_mount_is_not_removed_through(settings: Path, tmp_path: Path) -> None:
    """It is seen and unmounted before the folder is removed, which here is relative and a link."""
    precious, real = tmp_path / "precious", tmp_path / "real"
    for folder in (precious, real):
        folder.mkdir()
    (precious / "file").touch()
    (tmp_path / "link").symlink_to(real)
    site = install(tmp_path, LEAKS.replace("PRECIOUS", repr(str(precious))))
    words = ["storage", "leaks", "--format", "json", "--folder", "../link"]
    done = command(settings, words, site=site)
    assert done.returncode == 1, done.stderr
    reasons = [test["Reason"] for test in json.loads(done.stdout)["Tests"]]
    assert any("mount: " in reason for reason in reasons)
    assert (precious / "file").exists()
    assert list(real.iterdir()) == []
    assert str(real) not in Path("/proc/self/mountinfo").read_text()


HANGS = """
import os
import signal
from pannier.hookspecs import hookimpl
from pannier.linux.mounts import mount
from support.reference_storage import ReferenceStorage


class Hangs(ReferenceStorage):
    id = "hangs"

    def create_layer(self, chain_id, parent, diff):
        point = self.root / "point"
        point.mkdir()
        mount("tmpfs", point, "tmpfs")
        os.kill(os.getpid(), SIGNAL)
        signal.pause()


@hookimpl
def pannier_storage_drivers():
    return [Hangs]
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_names_the_test_and_cleans_up(
    settings: Path, tmp_path: Path, name: str
) -> None:
    """As with a driver that hangs: what was tested is reported, and the status is 130."""
    site = install(tmp_path, HANGS.replace("SIGNAL", f"signal.{name}"))
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored, by children too
    try:
        done = command(settings, ["storage", "hangs", "--folder", str(tmp_path)], site=site)
    finally:
        signal.signal(number, before)
    assert (done.returncode, done.stderr) == (130, "")
    assert re.search(r"\binterrupted in test_\w+(\[.*\])?$", done.stdout)
    assert not list(tmp_path.glob("conformance-*"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_what_will_fail_once_it_is_required(settings: Path, tmp_path: Path) -> None:
    """It is told, with the release, and is no failure yet."""
    site = install(tmp_path, PLUGIN + ANNOUNCEMENT)
    done = command(settings, ["storage", "wrong", "--format", "json"], site=site)
    report = json.loads(done.stdout)
    tests = {test["Name"]: test for test in report["Tests"]}
    told = tests["test_usage_is_the_layers_own"]
    assert told["Result"] == "will fail"
    assert told["Reason"] == "announced: must pass from Pannier 99.0 on"
    assert report["WillFail"] == 1
    # What else it fails was not announced.
    assert done.returncode == (report["Failed"] > 0)


def test_a_network_driver_on_a_link_of_the_host(settings: Path, installed: Path) -> None:
    """Its tests' networks have the options that are given: here the link that it cannot guess."""
    words = ["network", "reference", "-o", "parent=uplink0", "--format", "json"]
    done = command(settings, words, site=installed)
    if done.returncode == 2 and "modprobe macvlan" in done.stderr:
        pytest.skip("this kernel has no macvlan (modprobe macvlan)")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["Failed"] == 0
    assert report["Passed"] > 40


def test_options_of_logs(settings: Path) -> None:
    """They are those of the containers that the tests log."""
    words = ["log", "json-file", "--format", "json", "-o"]
    right = json.loads(command(settings, [*words, "max-size=1m"]).stdout)
    assert right["Failed"] == 0
    assert right["Passed"] > 8
    wrong = json.loads(command(settings, [*words, "max-size=much"]).stdout)
    assert wrong["Failed"] > 0


def test_a_driver_that_delivers(settings: Path) -> None:
    """Where its lines arrive only its own tests can see; the others are run."""
    report = json.loads(command(settings, ["log", "syslog", "--format", "json"]).stdout)
    assert report["Failed"] == 0
    reasons = {test["Name"]: test["Reason"] for test in report["Tests"]}
    assert "only the driver's own tests can see" in reasons["test_lines_arrive_in_order"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["storage", "any", "-o", "a=b"], "--opt is for network and log drivers"),
        (["network", "any", "-o", "parent"], "--opt takes KEY=VALUE, not 'parent'"),
    ],
)
def test_options_that_cannot_be(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are refused before anything is tried."""
    assert run(["conformance", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_what_cannot_be_run_says_why(settings: Path) -> None:
    """A driver that is not there, and a file that cannot be written: the status 2, and a hint."""
    done = command(settings, ["storage", "missing"])
    assert done.returncode == 2
    assert "no storage driver 'missing' is installed" in done.stderr
    assert "installed: " in done.stderr
    assert done.stdout == ""


def test_without_pytest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra that brings it is named."""
    monkeypatch.setitem(sys.modules, "pytest", None)
    assert run(["conformance", "storage", "any"]) == 2
    error = capsys.readouterr().err
    assert "needs pytest" in error
    assert "pip install 'pannier[testing]'" in error


def test_without_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is tried."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["conformance", "storage", "any"]) == 2
    assert "needs root" in capsys.readouterr().err


def test_kinds_and_ids_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kinds that there are, and the drivers of that kind that are installed."""
    monkeypatch.setenv("_PANNIER_COMPLETE", "bash_complete")
    for line, offered in (("conformance ", list(KITS)), ("conformance storage v", ["vfs"])):
        words = f"pannier {line}"
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        assert run([]) == 0
        found = [one.partition(",")[2] for one in capsys.readouterr().out.splitlines()]
        assert sorted(found) == sorted(offered)


@pytest.fixture
def report() -> Report:
    """Give a small report."""
    results = [
        Result("test_a", "A works.", seconds=0.5),
        Result("test_b", "B works.", "failed", 0.25, "assert 1 == 2\x1b\udcff"),
        Result("test_c", "C works.", "not applicable", 0, "the driver does not declare c"),
        Result("test_d", "D works.", "will fail", 0, "announced: must pass from Pannier 9 on"),
    ]
    return Report("storage", "x", "pannier-x", "1.0", ("a", "b"), "9.9", "Linux 6", results)


def test_the_table(report: Report) -> None:
    """What was tested comes first, the failures and the counts last."""
    assert FORMATS["table"](report).splitlines() == [
        "storage driver x (pannier-x 1.0)",
        "conformance kit 9.9, Linux 6",
        "declares: a, b",
        "",
        "RESULT           TEST",
        "passed           test_a",
        "failed           test_b",
        "not applicable   test_c  (the driver does not declare c)",
        "will fail        test_d  (announced: must pass from Pannier 9 on)",
        "",
        "--- test_b: B works.",
        "assert 1 == 2\x1b\udcff",
        "",
        "1 passed, 1 failed, 1 will fail, 1 not applicable",
    ]
    assert summary(report) == "1 passed, 1 failed, 1 will fail, 1 not applicable"


def test_junit_holds_whatever_a_test_says(report: Report) -> None:
    """Characters that XML has no place for are replaced."""
    suite = ET.fromstring(FORMATS["junit"](report))[0]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text == "assert 1 == 2??"
    assert suite.attrib == {
        "name": "storage.x",
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
        "time": "0.750",
    }
