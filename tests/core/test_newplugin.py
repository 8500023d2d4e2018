"""Skeletons of drivers: they work as they are written, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pannier.config
from pannier.errors import Conflict, InvalidRequest
from pannier.newplugin import KINDS, new_plugin

PLUGINS = {
    "storage": "storage",
    "network": "net",
    "resources": "resources",
    "runtime": "runtime",
    "log": "log",
}
MORE = {"runtime": ("container.py",)}
"""The modules that a kind's package has besides."""

LONG = "a-rather.long_name-of-32-letters"


def install(made: Path) -> Path:
    """Write what an installer would write of a distribution; return the folder for the path."""
    project = tomllib.loads((made / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = made / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        encoding="utf-8",
    )
    points = project["entry-points"]["pannier"]
    lines = ["[pannier]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return made / "src"


def run(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python module with a folder on its path."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a configuration whose folders are the test's own."""
    file = tmp_path / "config.toml"
    file.write_text(
        f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n', encoding="utf-8"
    )
    return file


@pytest.mark.root
@pytest.mark.parametrize("kind", PLUGINS)
def test_a_skeleton_passes_the_kit(tmp_path: Path, kind: str) -> None:
    """Once it is installed: its own tests, which are the whole kit, with no known gap."""
    made = new_plugin(kind, "hermit", tmp_path)
    done = run("pytest", "-q", "-p", "no:cacheprovider", cwd=made, path=install(made))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.root
@pytest.mark.parametrize("kind", PLUGINS)
def test_a_skeleton_passes_the_kit_where_it_is_installed(
    tmp_path: Path, config: Path, kind: str
) -> None:
    """``pannier conformance`` finds it by its entry point alone, and says what was tested."""
    made = new_plugin(kind, "hermit", tmp_path)
    words = ("--config", str(config), "conformance", kind, "hermit", "--format", "json")
    done = run("pannier.cli", *words, cwd=tmp_path, path=install(made))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["Kind"], report["Driver"], report["Version"]) == (kind, "hermit", "0.1.0")
    assert report["Distribution"] == f"pannier-{PLUGINS[kind]}-hermit"
    assert report["Passed"] > 8
    assert report["Failed"] == report["WillFail"] == 0


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_skeleton_is_listed(tmp_path: Path, config: Path, kind: str) -> None:
    """``pannier drivers`` has a row for it, with its distribution and version."""
    made = new_plugin(kind, "hermit", tmp_path)
    done = run(
        *("pannier.cli", "--config", str(config), "drivers"), cwd=tmp_path, path=install(made)
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    row = next((row for row in rows if row[:2] == [kind, "hermit"]), None)
    assert row is not None, done.stdout + done.stderr
    assert row[2:4] == [f"pannier-{PLUGINS[kind]}-hermit", "0.1.0"]


@pytest.mark.parametrize("name", ["x", "hermit", LONG])
def test_a_skeleton_is_well_formed(tmp_path: Path, name: str) -> None:
    """By its own rules of ruff, and by mypy's strict ones, whatever its name."""
    for kind in PLUGINS:
        new_plugin(kind, name, tmp_path)
    for made in tmp_path.iterdir():
        for command in (
            ("ruff", "check", "--no-cache"),
            ("ruff", "format", "--no-cache", "--check"),
        ):
            done = run(*command, cwd=made, path=made / "src")
            assert done.returncode == 0, done.stdout + done.stderr
    if name != LONG:
        return
    cache = ("--cache-dir", str(Path(__file__).parents[2] / ".mypy_cache" / "skeletons"))
    for made in tmp_path.iterdir():
        sources = {"MYPYPATH": str(made / "src")}
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *cache, "src", "tests"],
            cwd=made,
            env={**os.environ, **sources},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_is_filled_in(tmp_path: Path) -> None:
    """No mark of a template is left, and folders can be read by others."""
    for kind, short in PLUGINS.items():
        made = new_plugin(kind, "hermit", tmp_path)
        names = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
        package = f"src/pannier_{short}_hermit"
        assert names == {
            ".gitignore",
            "README.md",
            "pyproject.toml",
            f"{package}/__init__.py",
            f"{package}/driver.py",
            *(f"{package}/{name}" for name in MORE.get(kind, ())),
            f"{package}/py.typed",
            "tests/test_conformance.py",
        }
        for name in names:
            text = (made / name).read_text(encoding="utf-8")
            assert "$" not in text
            assert "__package__" not in text
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(made.stat().st_mode) == 0o777 & ~umask


def test_the_name_is_normalised(tmp_path: Path) -> None:
    """The distribution's as installers do; the driver's id stays as it was given."""
    made = new_plugin("storage", "zfs_fast.2", tmp_path)
    assert made.name == "pannier-storage-zfs-fast-2"
    driver = (made / "src" / "pannier_storage_zfs_fast_2" / "driver.py").read_text(encoding="utf-8")
    assert 'id: ClassVar[str] = "zfs_fast.2"' in driver
    assert "class ZfsFast2Storage(StorageDriver)" in driver


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_that_is_shown_is_the_drivers(tmp_path: Path, kind: str) -> None:
    """An id with a dot is one key of TOML, and not two, in the README and in the driver's words."""
    made = new_plugin(kind, "zfs.fast_2", tmp_path)
    readme = (made / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("```toml\n")[2].partition("```")[0]
    tables = pannier.config.parse(shown).tables
    assert list(tables[kind]) == ["zfs.fast_2"]
    (driver,) = made.glob("src/*/driver.py")
    text = driver.read_text(encoding="utf-8")
    headers = re.findall(rf"\[{kind}\.[^]]*\]", text)
    assert headers
    for header in headers:
        assert tomllib.loads(header) == {kind: {"zfs.fast_2": {}}}
    compile(text, str(driver), "exec")


@pytest.mark.parametrize(
    "name", ["", "Zfs", "9p", "zfs-", "-zfs", "a/b", "../up", "a b", "zfs\n", "ß", "a" * 33]
)
def test_what_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidRequest, match="cannot be the id"):
        new_plugin("network", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "full", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    """Neither an empty folder nor a file, nor what a link points to; and nothing else stays."""
    target = tmp_path / "pannier-net-hermit"
    if there == "file":
        target.write_text("mine", encoding="utf-8")
    elif there == "link":
        target.symlink_to("nowhere")
    else:
        target.mkdir()
    if there == "full":
        (target / "mine").touch()
    with pytest.raises(Conflict, match="is there already"):
        new_plugin("network", "hermit", tmp_path)
    assert list(tmp_path.iterdir()) == [target]
    assert not target.is_dir() or len(list(target.iterdir())) == (there == "full")


def test_the_id_of_an_installed_driver_is_refused(tmp_path: Path) -> None:
    """Two drivers with one id are refused by the engine, so the author would see none."""
    with pytest.raises(Conflict, match="is installed"):
        new_plugin("network", "hermit", tmp_path, installed={"hermit"})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(InvalidRequest, match="cannot be written: No such file"):
        new_plugin("network", "hermit", tmp_path / "away")


def test_every_kind_has_a_skeleton(tmp_path: Path) -> None:
    """What is no kind of driver is refused, and the kinds are listed."""
    assert set(KINDS) == set(PLUGINS) == set(pannier.config.KINDS)
    with pytest.raises(InvalidRequest, match="no kind of driver") as caught:
        new_plugin("nonsense", "hermit", tmp_path)
    assert "runtime" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    """It prints the new folder; an error is one line with a hint, and the exit status 1."""
    command = ("pannier.cli", "plugin", "new", "network", "hermit", "--folder", str(tmp_path))
    done = run(*command, cwd=tmp_path, path=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/pannier-net-hermit\n"), done.stderr
    done = run(*command, cwd=tmp_path, path=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {tmp_path}/pannier-net-hermit is there already\n"
        "hint: remove it, or give --folder\n"
    )
