"""What a guest is made with: its disk, and whether the processor helps."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pannier.errors import DriverUnavailable
from pannier.matrix.machine import accelerated
from pannier.matrix.trees import TREES, make_disk, trees_to_copy

SYSTEM = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def test_kvm_needs_the_processors_help(tmp_path: Path) -> None:
    """A device without it, or one that makes no machine, is no help."""
    processors = tmp_path / "cpuinfo"
    for flags, device in (
        ("flags\t\t: fpu sse2 hypervisor", Path("/dev/kvm")),
        ("flags\t\t: fpu vmx sse2", Path("/dev/null")),
        ("flags\t\t: fpu sse2 svm", tmp_path / "missing"),
        ("flags\t\t: fpu svm_lock", Path("/dev/null")),
    ):
        processors.write_text(f"processor\t: 0\n{flags}\n")
        assert not accelerated(processors, device)
    assert not accelerated(tmp_path / "missing", Path("/dev/kvm"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give an author's folder."""
    folder = tmp_path / "project"
    for name in ("src/package", "tests", ".git", "out/6.1", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "src" / "package" / "code.py").write_text("answer = 42\n")
    (folder / "data" / "big").write_bytes(bytes(5000))
    (folder / "README.md").touch()
    return folder


def test_what_is_copied(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and its path, the folder's own folders; not what is hidden, large, or written to."""
    monkeypatch.setattr("sys.path", ["", str(project / "src" / "package"), "/no/such/folder"])
    found = trees_to_copy(project, project / "out" / "6.1", largest=4000)
    assert found == [project / "src", project / "tests"]
    found = trees_to_copy(project, project / "out" / "6.1")
    assert set(found) > {project / name for name in ("src", "tests", "data")}
    assert Path(sys.executable).resolve() in found
    assert Path(sysconfig.get_path("stdlib")).resolve() in found
    assert [one for one in found if "out" in one.parts or ".git" in one.parts] == []


def test_the_disk_has_copies(project: Path, tmp_path: Path) -> None:
    """At their own paths, in a folder; links stay links."""
    (project / "src" / "link").symlink_to("package")
    disk = tmp_path / "disk"
    make_disk(disk, 16, [project / "src", project / "README.md"])
    assert disk.stat().st_size == 16 << 20
    for path, said in (("src/link/code.py", "answer = 42\n"), ("README.md", "")):
        command = ["debugfs", "-R", f"cat /{TREES}{project}/{path}", str(disk)]
        done = subprocess.run(command, env=SYSTEM, capture_output=True, text=True, check=True)
        assert done.stdout == said
    assert {one.name for one in tmp_path.iterdir()} == {"disk", "project"}


def test_a_disk_that_is_too_small(project: Path, tmp_path: Path) -> None:
    """The program's own words are in the error."""
    (project / "data" / "big").write_bytes(os.urandom(3 << 20))
    with pytest.raises(DriverUnavailable, match="could not be made: ") as caught:
        make_disk(tmp_path / "disk", 2, [project / "data"])
    assert "non-zero exit status" not in str(caught.value)
