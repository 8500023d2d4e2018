"""Which mount a path is on, and whether it is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.linux.propagation import Propagation, propagation_of

if TYPE_CHECKING:
    from pathlib import Path

_TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /data rw shared:7 - tmpfs tmpfs rw
31 30 0:26 / /data rw - tmpfs tmpfs rw
32 22 0:27 / /data/in\040there rw master:7 - tmpfs tmpfs rw
33 22 0:28 / /both rw shared:9 master:1 - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/elsewhere/x", Propagation("/", shared=True, slave=False)),
        ("/database", Propagation("/", shared=True, slave=False)),
        ("/data", Propagation("/data", shared=False, slave=False)),
        ("/data/x/../y", Propagation("/data", shared=False, slave=False)),
        ("/data/in there/x", Propagation("/data/in there", shared=False, slave=True)),
        ("/both/x", Propagation("/both", shared=True, slave=True)),
    ],
)
def test_the_innermost_mount_counts(tmp_path: Path, path: str, expected: Propagation) -> None:
    """And of several at one place the one that is seen."""
    table = tmp_path / "mountinfo"
    table.write_text(_TABLE)
    assert propagation_of(path, table) == expected


def test_links_are_followed(tmp_path: Path) -> None:
    """A link's mount is that of what it leads to."""
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 0 8:1 / / rw - ext4 x rw\n2 1 8:2 / {tmp_path}/a rw shared:1 - ext4 x rw\n"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert propagation_of(str(tmp_path / "link"), table).shared
    assert not propagation_of(str(tmp_path), table).shared


def test_this_host() -> None:
    """The kernel's own table can be read."""
    assert propagation_of("/proc/self").point == "/proc"
