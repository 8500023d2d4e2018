"""What the kit sees of what a driver leaves behind, and what it leaves out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pannier.linux.mounts import MS_BIND, mount, umount
from pannier.testing import leaks
from pannier.testing.leaks import (
    Watch,
    files_below,
    leaked,
    remove_folder,
    snapshot,
    unmount_below,
    wait_until,
)
from support.isolation import apart

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


def test_mounts_in_the_folders_are_seen(tmp_path: Path) -> None:
    """With what they are; they can be unmounted, whatever stands in their names."""
    point = tmp_path / "a name"
    point.mkdir()
    watch = Watch(folders=(tmp_path,))
    before = snapshot(watch)
    mount("tmpfs", point, "tmpfs")
    try:
        assert [line for line in leaked(before, watch, patience=0) if "tmpfs" in line]
    finally:
        unmount_below(tmp_path)
    assert leaked(before, watch, patience=0) == []


def test_mounts_behind_a_symbolic_link_are_seen(tmp_path: Path) -> None:
    """The kernel tells real paths; /var/lib/pannier is often a link to a larger disk."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    (real / "point").mkdir()
    watch = Watch(folders=(link,))
    before = snapshot(watch)
    mount("tmpfs", link / "point", "tmpfs")
    try:
        assert [line for line in leaked(before, watch, patience=0) if "tmpfs" in line]
        unmount_below(link)
        assert not os.path.ismount(real / "point")
    finally:
        unmount_below(real)
    assert leaked(before, watch, patience=0) == []


def test_nothing_is_removed_through_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken away first; where it cannot be, the folder stays."""
    folder, precious = tmp_path / "folder", tmp_path / "precious"
    (folder / "point").mkdir(parents=True)
    precious.mkdir()
    (precious / "file").touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    mount(precious, folder / "point", None, MS_BIND)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(leaks, "umount", lambda _: None)
            assert not remove_folder(link / "folder")
        assert (folder / "point" / "file").exists()
        assert remove_folder(link / "folder")
    finally:
        unmount_below(folder)
    assert not folder.exists()
    assert (precious / "file").exists()


def test_mounts_elsewhere_are_somebody_elses(tmp_path: Path) -> None:
    """A host is never quiet."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
    watch = Watch(folders=(mine,))
    before = snapshot(watch)
    mount("tmpfs", other, "tmpfs")
    try:
        assert leaked(before, watch, patience=0) == []
    finally:
        umount(other)


def test_descriptors_are_seen(tmp_path: Path) -> None:
    """By what they are of, also when one of it was open before."""
    file = tmp_path / "file"
    file.touch()
    with file.open():
        before = snapshot(Watch())
        with file.open():
            assert leaked(before, Watch(), patience=0) == [f"descriptor: {file}"]
    assert leaked(before, Watch(), patience=0) == []


def test_processes_are_seen() -> None:
    """Children and theirs, by name, until they have ended."""
    before = snapshot(Watch())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left = leaked(before, Watch(), patience=0)
    assert any(line.startswith("process: ") and f"pid {child.pid}" in line for line in left)
    child.communicate()
    assert not [line for line in leaked(before, Watch(), patience=0) if "process" in line]


@pytest.mark.parametrize("held", ["working folder", "descriptor", "argument", "deleted folder"])
def test_processes_that_hold_the_folders_are_seen(tmp_path: Path, held: str) -> None:
    """Also where they are nobody's children, as monitors are; with those that they started."""
    inside = tmp_path / "watched" / "box"
    inside.mkdir(parents=True)
    file = inside / "file"
    file.touch()
    watch = Watch(folders=(tmp_path / "watched",))
    alive, end = os.pipe()
    before = snapshot(watch)
    program = ["setsid", "--fork", "sh", "-c", "cat; true"]
    if held == "argument":
        program += ["sh", f"--log={file}"]
    with file.open() as of_file, os.fdopen(alive) as stdin:
        subprocess.run(
            program,
            check=True,
            stdin=stdin,
            stderr=of_file if held == "descriptor" else None,
            cwd=inside if "folder" in held else tmp_path,
        )
    if held == "deleted folder":
        shutil.rmtree(inside)
    try:
        assert wait_until(lambda: "process: cat" in "\n".join(leaked(before, watch, patience=0)))
        left = leaked(before, watch, patience=0)
        assert [line.partition(" (")[0] for line in left] == ["process: cat", "process: sh"]
        assert leaked(before, Watch(folders=(tmp_path / "watch",)), patience=0) == []
    finally:
        os.close(end)
    assert leaked(before, watch) == []


def test_links_and_rules_are_seen() -> None:
    """Of the thread's own network namespace, and only if they are asked for."""

    def run() -> tuple[list[str], list[str]]:
        quiet, watch = Watch(), Watch(network=True)
        before, unwatched = snapshot(watch), snapshot(quiet)
        for command in (
            "ip link add left type veth peer name right",
            "ip address add 192.0.2.1/24 dev left",
            "ip link set left up",
            "ip address add fd00:9::1/64 dev left nodad",
            "ip -6 route add fd00:10::/64 dev left",
            "nft add table ip kit",
            "nft add chain ip kit forward { type filter hook forward priority 0 ; }",
            "nft add rule ip kit forward ip saddr 192.0.2.7 drop",
            "nft add set ip kit friends { type ipv4_addr ; }",
            "nft add element ip kit friends { 192.0.2.9 }",
        ):
            subprocess.run(command.split(), check=True)
        return leaked(before, watch, patience=0), leaked(unwatched, quiet, patience=0)

    seen, unasked = apart(run)
    text = "\n".join(seen)
    for thing in (
        "link: veth left",
        "link: veth right",
        "link: address 192.0.2.1/24 of left",
        "link: address fd00:9::1/64 of left",
        "link: route to fd00:10::/64 by left",
        "firewall rule: table ip kit",
        "firewall rule: chain ip kit forward",
        "firewall rule: rule ip kit forward handle",
        "firewall rule: set ip kit friends",
        "firewall rule: element ip kit friends c0000209",
    ):
        assert thing in text
    assert "fe80::" not in text
    assert "fd00:9::1/128" not in text
    assert unasked == []


def test_control_groups_are_seen(tmp_path: Path) -> None:
    """Those below the groups that are watched; any folder will do for a group here."""
    watch = Watch(groups=(tmp_path,))
    before = snapshot(watch)
    (tmp_path / "box" / "inner").mkdir(parents=True)
    assert leaked(before, watch, patience=0) == [
        f"control group: {tmp_path}/box",
        f"control group: {tmp_path}/box/inner",
    ]


def test_files_are_listed_whatever_their_names(tmp_path: Path) -> None:
    """Bytes that are no text too; a missing folder has none."""
    odd = os.fsdecode(b"\xff\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / odd).touch()
    found = files_below(tmp_path, tmp_path / "missing")
    assert found == {str(tmp_path / "folder"), str(tmp_path / "folder" / odd)}


def test_waiting_asks_at_least_once() -> None:
    """And says whether what was waited for came."""
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0)
