"""Kernels to boot: found in Debian's package lists, downloaded once, unpacked as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.errors import DriverUnavailable, InvalidRequest
from pannier.matrix.kernels import fetch_kernel

if TYPE_CHECKING:
    from pathlib import Path

NAMES = " ".join(f"linux-image-{one}amd64" for one in ("6.1.0-9-", "6.1.0-10-", "6.12.5-", ""))

PROGRAMS = {
    # Lists nothing before the lists were brought up to date.
    "apt-cache": f'[ ! -e updated ] || printf "%s - a kernel\\n" {NAMES}',
    "apt-get": """echo "$*" >> asked
case "$*" in
  *update*) [ ! -e offline ] || { echo 'E: no network' >&2; exit 100; }; touch updated ;;
  *) for name; do :; done; cd "$folder" && touch "$name.deb" ;;
esac""",
    "dpkg-deb": 'mkdir -p "$3/boot"',
    "depmod": "",
}


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with programs that stand in for Debian's; they keep their notes in it."""
    for name, script in PROGRAMS.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\nfolder=$PWD; cd {tmp_path}\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return tmp_path


def test_a_kernel_is_downloaded_once(debian: Path) -> None:
    """The newest package of its line, after the lists were fetched, which there were none of."""
    kernels = debian / "cache" / "pannier-kernels"
    path = kernels / "linux-image-6.1.0-10-amd64" / "boot" / "vmlinuz-6.1.0-10-amd64"
    for _ in range(2):
        assert fetch_kernel("6.1") == path
        assert path.parent.is_dir()
    asked = (debian / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["-qq", "linux-image-6.1.0-10-amd64"]
    assert {one.name for one in kernels.iterdir()} == {"lock", "linux-image-6.1.0-10-amd64"}


def test_without_a_network(debian: Path) -> None:
    """The error says what to do."""
    (debian / "offline").touch()
    with pytest.raises(DriverUnavailable, match=r"no package of the kernel 6\.1") as caught:
        fetch_kernel("6.1")
    assert caught.value.hint == "try apt-get update"


def test_the_package_lists_are_roots(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else tries to bring them up to date."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DriverUnavailable, match=r"no package of the kernel 6\.1"):
        fetch_kernel("6.1")
    assert not (debian / "asked").exists()


def test_a_kernel_that_is_not_in_the_table(debian: Path) -> None:
    """It is refused, and nothing is asked for."""
    with pytest.raises(InvalidRequest, match=r"there is no kernel '2\.4'"):
        fetch_kernel("2.4")
    assert not (debian / "asked").exists()
