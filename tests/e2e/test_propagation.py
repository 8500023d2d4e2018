"""Mounts that spread between the host and containers: ``shared`` and ``slave`` binds."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.daemon import Daemon


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that is a mount of its own, and private."""
    folder = tmp_path / "place"
    folder.mkdir()
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-private", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--recursive", folder], check=True)


@pytest.mark.parametrize(("mode", "kind"), [("rshared", "shared"), ("slave", "shared or slave")])
def test_a_private_mount_spreads_nothing(daemon: Daemon, place: Path, mode: str, kind: str) -> None:
    """It is refused in Docker's words."""
    bind = f"{place}:/x:{mode}"
    done = daemon.cli("run", "--network", "none", "-v", bind, "busybox", "true", check=False)
    assert done.returncode == 125
    assert f"path {place} is mounted on {place} but it is not a {kind} mount" in done.stderr


def test_a_shared_mount_spreads(daemon: Daemon, place: Path) -> None:
    """A slave sees what the host mounts later; what a shared one mounts the host sees."""
    subprocess.run(["mount", "--make-shared", place], check=True)
    (place / "later").mkdir()
    (place / "inner").mkdir()
    none = ["-d", "--network", "none"]
    for name, mode in (("slave", "rslave"), ("peer", "rshared"), ("apart", "rprivate")):
        flags = ["--name", name, "--cap-add", "SYS_ADMIN", "-v", f"{place}:/x:{mode}"]
        daemon.cli("run", *none, *flags, "busybox", "sleep", "1000")
    subprocess.run(["mount", "-t", "tmpfs", "spread", place / "later"], check=True)
    (place / "later" / "file").write_text("seen")
    for name, seen in (("slave", "seen"), ("peer", "seen"), ("apart", "")):
        found = daemon.cli("exec", name, "cat", "/x/later/file", check=False).stdout
        assert found == seen, name
    daemon.cli("exec", "peer", "mount", "-t", "tmpfs", "back", "/x/inner")
    daemon.cli("exec", "peer", "touch", "/x/inner/file")
    assert (place / "inner" / "file").exists()
    daemon.cli("exec", "slave", "mount", "-t", "tmpfs", "own", "/x/inner")
    assert (place / "inner" / "file").exists()


@pytest.mark.parametrize("mode", ["slave", "private"])
def test_what_is_mounted_below_is_no_peer_either(daemon: Daemon, place: Path, mode: str) -> None:
    """The word holds for the folder alone; nothing below leads from the container to the host."""
    subprocess.run(["mount", "--make-shared", place], check=True)
    (place / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", place / "below"], check=True)
    bind = f"{place}:/x:{mode}"
    flags = ["--rm", "--network", "none", "--cap-add", "SYS_ADMIN", "-v", bind, "busybox"]
    script = "mkdir /x/below/own && mount -t tmpfs own /x/below/own && touch /x/below/own/file"
    daemon.cli("run", *flags, "sh", "-c", script)
    assert list((place / "below/own").iterdir()) == []
