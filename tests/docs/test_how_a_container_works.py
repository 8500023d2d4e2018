"""The article on containers shows what really happens, and opens modules that exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.daemon import Daemon
from support.images import busybox_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ARTICLE = (ROOT / "docs" / "how-a-container-works.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```text\n(.*?)^```$", ARTICLE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def explained() -> list[list[str]]:
    """Run the article's command; return each step's words, the driver's id first."""
    if shutil.which("busybox") is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    command = re.search(r"^pannier (run --explain .*)$", ARTICLE, re.MULTILINE)
    assert command is not None
    daemon = Daemon()
    try:
        daemon.start()
        archive = daemon.folder / "busybox.tar"
        archive.write_bytes(busybox_archive())
        daemon.cli("load", "-i", str(archive))
        printed = daemon.cli(*command[1].split()).stdout
    finally:
        daemon.close()
    return list(_steps(_as_installed(printed, daemon)))


def _as_installed(printed: str, daemon: Daemon) -> str:
    """Put a default installation's names in the place of the test's."""
    [group] = re.findall(rf"/{daemon.group}/(\w{{12}})/memory.limit_in_bytes", printed)
    for name, usual in (
        (f"{daemon.folder}/root", "/var/lib/pannier"),
        (daemon.group, "pannier"),
        (group, "4608f8911636"),
    ):
        printed = printed.replace(name, usual)
    return printed


def _steps(printed: str) -> Iterator[list[str]]:
    driver = ""
    for line in printed.splitlines():
        if match := re.fullmatch(r"(\w+)(?: \(\w+\))?", line):
            driver = match[1]
        elif match := re.match(r" +\d+  (.*)", line):
            yield [driver, *match[1].split()]


@pytest.mark.root
@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").is_dir(), reason="the article shows a host with cgroup v1"
)
@pytest.mark.parametrize("block", SHOWN)
def test_what_is_shown_is_planned(block: str, explained: list[list[str]]) -> None:
    """Each line is the beginning of a step, in this order; the last word may be cut short."""
    rest = iter(explained)
    for line in block.splitlines():
        words = line.split()
        assert any(_begins(step, words) for step in rest), line


def _begins(step: list[str], words: list[str]) -> bool:
    whole, last = len(words) - 1, words[-1]
    return step[:whole] == words[:whole] and "".join(step[whole : whole + 1]).startswith(last)


def test_every_section_opens_its_modules() -> None:
    """Each names at least one, and all of them are there; and each shows what is planned."""
    sections = re.split(r"^## ", ARTICLE, flags=re.MULTILINE)[1:]
    assert len(sections) > 8
    for section in sections:
        named = re.search(r"^\*Modules: (.*?)\*$", section, re.DOTALL | re.MULTILINE)
        assert named is not None, section.partition("\n")[0]
        paths = re.findall(r"`([^`]+)`", named[1])
        assert paths != []
        for path in paths:
            assert (ROOT / path).exists(), path
        assert any(block in section for block in SHOWN), section.partition("\n")[0]
