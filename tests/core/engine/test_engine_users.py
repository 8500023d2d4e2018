"""Who ``-u`` means, in the container's own files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.engine.users import UserIds, find, find_in
from pannier.errors import InvalidRequest, NotFound, PannierError

if TYPE_CHECKING:
    from pathlib import Path

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment

broken
evil:x:zero:0::/evil:/bin/sh
daemon:x:1:1:daemon:/usr/sbin
web:x:33:33:web:/var/www:/bin/false
1000:x:55:55::/numeric:
"""
GROUP = """\
root:x:0:root
web:x:33:
adm:x:4:web,daemon
extra:x:5: web
bad:x:five:web
"""


@pytest.mark.parametrize(
    ("user", "more", "wanted"),
    [
        ("", (), UserIds(0, 0, (0,), "/root")),
        ("root", (), UserIds(0, 0, (0,), "/root")),
        ("0", (), UserIds(0, 0, (0,), "/root")),
        ("web", (), UserIds(33, 33, (33, 4, 5), "/var/www")),
        ("33", (), UserIds(33, 33, (33, 4, 5), "/var/www")),
        ("web:adm", (), UserIds(33, 4, (4,), "/var/www")),
        ("web:77", (), UserIds(33, 77, (77,), "/var/www")),
        ("1000", (), UserIds(1000, 0, (0,), "/")),
        ("1000:1000", (), UserIds(1000, 1000, (1000,), "/")),
        ("daemon", ("extra", "99"), UserIds(1, 1, (1, 4, 5, 99), "/usr/sbin")),
    ],
)
def test_users(user: str, more: tuple[str, ...], wanted: UserIds) -> None:
    """A number is always an id; a group given takes the place of the user's own groups."""
    assert find_in(PASSWD, GROUP, user, more) == wanted


@pytest.mark.parametrize("user", ["nobody", "evil", "broken", "-1", "+5", "1_0", "\u0665"])
def test_unknown_users(user: str) -> None:
    """A name that is not there, or whose entry is malformed, is refused; never taken for root."""
    with pytest.raises(NotFound, match="no matching entries in passwd file"):
        find_in(PASSWD, GROUP, user)


def test_unknown_groups() -> None:
    """Likewise a group, also one of --group-add."""
    with pytest.raises(NotFound, match="unable to find group bad: no matching entries in group"):
        find_in(PASSWD, GROUP, "root:bad")
    with pytest.raises(NotFound, match="unable to find group nope"):
        find_in(PASSWD, GROUP, "root", ("nope",))


@pytest.mark.parametrize("user", ["2147483648", "0:4294967295", "9" * 400])
def test_ids_out_of_range(user: str) -> None:
    """Ids are at most 2³¹-1, as Docker has it."""
    with pytest.raises(InvalidRequest, match="must be in range 0-2147483647"):
        find_in(PASSWD, GROUP, user)


@given(
    passwd=st.text(st.sampled_from("root:x0123\n#:\t a"), max_size=80),
    group=st.text(st.sampled_from("root:x0123\n#:,\t a"), max_size=80),
    user=st.text(st.sampled_from("root:x0123 a"), max_size=12),
)
def test_no_input_breaks_the_look_up(passwd: str, group: str, user: str) -> None:
    """Whatever the files hold, the answer is an account in range or a named error."""
    try:
        found = find_in(passwd, group, user)
    except PannierError:
        return
    for number in (found.uid, found.gid, *found.groups):
        assert 0 <= number < 1 << 31
    assert found.groups[0] == found.gid


def _find(root: Path, user: str) -> UserIds:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return find(descriptor, user)
    finally:
        os.close(descriptor)


def test_files_are_those_of_the_root(tmp_path: Path) -> None:
    """A link in the container to the host's file leads to the container's."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "real").write_text("inside:x:7:8::/home/inside:\n")
    (tmp_path / "etc/passwd").symlink_to("/real")
    assert _find(tmp_path, "inside") == UserIds(7, 8, (8,), "/home/inside")
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to("/../../../../../../etc/passwd")
    with pytest.raises(NotFound):
        _find(tmp_path, "daemon")


def test_hostile_files_do_not_hang(tmp_path: Path) -> None:
    """A fifo or a folder in the place of a file counts as an empty one."""
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    (tmp_path / "etc/group").mkdir()
    assert _find(tmp_path, "") == UserIds(0, 0, (0,), "/")
