"""The examples are what strangers would have: installed from wheels, tested without the repository.

Pannier and every distribution below ``examples`` are built and installed into one new environment,
in which each one's own tests are run, from a copy of them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from support.daemon import Daemon, leftovers
from support.images import busybox_image, docker_archive
from support.pages import blocks
from support.registry import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {"storage", "network", "resources", "runtime", "log"}
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml"))
NAMES = [path.name for path in EXAMPLES]

HERE = "tests/examples/test_examples.py"
GUIDE = "docs/conformance.md"

IMAGE = busybox_image(tags=["alpine:latest", "nginx:latest"], config={"Cmd": ["sh"]})
LINKS = ("ip link add eth0 type veth peer name wire", "ip link set eth0 up", "ip link set wire up")
"""What the host is connected by."""

pytestmark = [pytest.mark.root, pytest.mark.slow]


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which Pannier and the examples are installed."""

    folder: Path

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, with nothing of this process's Python in the environment."""
        programs = self.folder / "bin"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST", "COVERAGE", "PANNIER", "VIRTUAL_ENV"))
        }
        return subprocess.run(
            [str(programs / command[0]), *command[1:]],
            cwd=cwd,
            env=kept | {"PATH": f"{programs}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Build wheels of everything, and install them."""
    folder = tmp_path_factory.mktemp("examples")
    wheels = folder / "wheels"
    # From copies: some ways of building leave files beside the sources.
    sources = [ROOT, *(_copy(path, folder / "sources") for path in EXAMPLES)]
    # In one environment for all: pip would make one for each.
    builder = _python(folder / "build")
    _pip(builder, "install", *{need for source in sources for need in _build_needs(source)})
    options = ("--no-build-isolation", "--no-deps", "--wheel-dir", str(wheels))
    _pip(builder, "wheel", *options, *map(str, sources))
    # By their paths, so that no index can have another one; with what their tests need.
    wanted = [f"{wheel}[testing]" for wheel in sorted(wheels.glob("*.whl"))]
    assert len(wanted) == len(sources)
    made = folder / "venv"
    _pip(_python(made), "install", *wanted)
    yield Environment(made)
    shutil.rmtree(folder)


def _readme(example: Path) -> str:
    return f"examples/{example.name}/README.md"


def _commands(page: str) -> list[str]:
    """Return the commands of a page that it says are run here."""
    found = [block for block in blocks(page) if block.run_by == HERE]
    return [command for block in found for command in block.commands]


def _copy(example: Path, target: Path, *without: str) -> Path:
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", *without)
    return Path(shutil.copytree(example, target / example.name, ignore=unwanted))


def _python(folder: Path) -> str:
    """Make a virtual environment without pip, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def _build_needs(source: Path) -> list[str]:
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))
    needs: list[str] = project["build-system"]["requires"]
    return needs


def _pip(python: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--python", python, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_the_repository_is_seen(environment: Environment, tmp_path: Path) -> None:
    """What is imported there is what was installed there."""
    script = (
        "import sys, importlib.metadata as m\n"
        "points = m.entry_points(group='pannier')\n"
        "print(*sys.path, *(point.load().__file__ for point in points), sep='\\n')"
    )
    done = environment.run("python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert str(environment.folder) in done.stdout
    assert str(ROOT) not in done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_an_examples_own_tests_pass(
    environment: Environment, example: Path, tmp_path: Path
) -> None:
    """All of them, as its README runs them; one that needs what this host lacks names it."""
    copy = _copy(example, tmp_path / "examples", "src")  # the installed sources are tested
    report = tmp_path / "report.xml"
    [command] = [words for words in _commands(_readme(example)) if words.startswith("pytest")]
    words = shlex.split(command, comments=True)
    beside = any(word.startswith("examples/") for word in words)
    options = ("-p", "no:cacheprovider", f"--junit-xml={report}")
    done = environment.run(*words, *options, cwd=tmp_path if beside else copy)
    assert done.returncode == 0, done.stdout
    passed, missing = _outcome(report)
    assert passed or missing, done.stdout
    if missing:
        pytest.skip(f"{passed} tests passed; others lack something: {'; '.join(missing)}")


@pytest.mark.parametrize("page", [*(f"examples/{name}/README.md" for name in NAMES), GUIDE])
def test_no_command_is_passed_over(page: str) -> None:
    """Each that a page says is run here is of one of the two kinds that are."""
    commands = _commands(page)
    assert commands
    for command in commands:
        assert command.split()[0] in ("pannier", "pytest"), command


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_a_readmes_commands_run(environment: Environment, example: Path) -> None:
    """All that a user types after the installation, as it stands there, with a daemon."""
    needs("busybox", "busybox-static")
    commands = [words for words in _commands(_readme(example)) if words.startswith("pannier ")]
    assert commands
    daemon = Daemon()
    daemon.python = environment.folder / "bin" / "python"
    try:
        daemon.start()
        daemon.cli("load", "-i", "-", input=docker_archive([IMAGE]))
        for line in (*LINKS, *commands):
            command = line.split("#")[0].replace(" -it ", " -i ")  # there is no terminal here
            if "--runtime runc" in command and shutil.which("runc") is None:
                continue
            done = subprocess.run(
                ["nsenter", _namespace(daemon), "sh", "-c", command],
                env=os.environ
                | {"PATH": f"{environment.folder}/bin:{os.environ['PATH']}"}
                | {"PANNIER_HOST": daemon.host, "PANNIER_CONFIG": str(daemon.config)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if "modprobe macvlan" in done.stderr:
                pytest.skip("this kernel has no macvlan (modprobe macvlan)")
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    finally:
        daemon.close()
    assert leftovers(daemon) == []


@pytest.mark.parametrize("command", [pytest.param(words) for words in _commands(GUIDE)])
def test_the_guides_commands_run(environment: Environment, command: str, tmp_path: Path) -> None:
    """Those of the guide to the kit that test an example's driver."""
    config = tmp_path / "pannier.toml"
    config.write_text(f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n')
    program, *words = shlex.split(command, comments=True)
    done = environment.run(program, "--config", str(config), *words, cwd=tmp_path)
    if done.returncode == 2 and "modprobe macvlan" in done.stdout:
        pytest.skip("this kernel has no macvlan (modprobe macvlan)")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def _namespace(daemon: Daemon) -> str:
    assert daemon.process is not None
    return f"--net=/proc/{daemon.process.pid}/ns/net"


def _outcome(report: Path) -> tuple[int, list[str]]:
    """Return how many tests passed, and why others were skipped that apply to the driver."""
    passed, missing = 0, set()
    for case in ET.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is None:
            passed += 1
        elif skipped.get("type") == "pytest.skip":  # no known gap, which is none
            reason = skipped.get("message", "")
            if not reason.startswith("not applicable"):
                missing.add(reason)
    return passed, sorted(missing)


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_an_examples_drivers_are_listed(
    environment: Environment, example: Path, tmp_path: Path
) -> None:
    """By its entry point alone: with the distribution, and whether it works on this host."""
    config = tmp_path / "pannier.toml"
    config.write_text(f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n')
    command = ("pannier", "--config", str(config), "drivers", "--format", "json")
    done = environment.run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    own = [row for row in rows if row["Distribution"] == project["name"]]
    assert own, done.stdout
    for row in own:
        assert row["Id"], row
        assert row["Kind"] in KINDS, row
        assert row["Usable"] or (row["Reason"] and row["Hint"]), row
