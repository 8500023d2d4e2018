"""Who a process runs as: names looked up in the container's own passwd and group files.

The files are read through a descriptor of the container's root and as plain data; nothing from
inside is loaded or trusted beyond what it says about its own ids.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest, NotFound
from pannier.linux.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UserIds", "find", "find_in", "unresolved"]

_HIGHEST = (1 << 31) - 1
_MAX_SIZE = 4 << 20
"""More than this of a passwd or group file is not read."""


@dataclass(frozen=True, slots=True)
class UserIds:
    """An account, in the container's ids.

    :param groups: the supplementary groups, the primary one among them.
    :param home: the home folder; ``/`` where none is known.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def find(root: int, user: str, group_add: tuple[str, ...] = ()) -> UserIds:
    """Return the account that ``-u user`` and ``--group-add`` mean in the root *root*.

    :param root: a descriptor of the container's root folder.
    :raises NotFound: a name is not in its file.
    :raises InvalidRequest: an id is out of range.
    """
    return find_in(_read(root, "etc/passwd"), _read(root, "etc/group"), user, group_add)


def find_in(passwd: str, group: str, user: str, group_add: tuple[str, ...] = ()) -> UserIds:
    """As :func:`find`, with the contents of the two files."""
    user_part, _, group_part = user.partition(":")
    account = _find_user(passwd, user_part)
    groups = list(_groups(group))
    uid, gid, home = account.uid, account.gid, account.home or "/"
    more: list[int] = []
    if group_part:
        gid = _find_group(groups, group_part)
    elif account.name:
        more = [item.gid for item in groups if account.name in item.members]
    more += [_find_group(groups, name) for name in group_add]
    return UserIds(uid, gid, tuple(dict.fromkeys((gid, *more))), home)


def unresolved(user: str) -> UserIds:
    """Return what a user would be as far as numbers say it, for a plan without a root."""
    user_part, _, group_part = user.partition(":")
    uid = int(user_part) if user_part.isdecimal() else 0
    gid = int(group_part) if group_part.isdecimal() else 0
    return UserIds(uid, gid)


def _find_user(passwd: str, wanted: str) -> _User:
    number = _number(wanted, "uid")
    for user in _users(passwd):
        # A number is always a uid, although a user may be named so.
        if not wanted or number is not None:
            found = user.uid == (number or 0)
        else:
            found = user.name == wanted
        if found:
            return user
    if not wanted:
        return _User("", 0, 0, "")
    if number is None:
        raise NotFound(
            f"unable to find user {wanted}: no matching entries in passwd file",
            hint="the name must be in the image's /etc/passwd; a number needs no entry",
        )
    return _User("", number, 0, "")


def _find_group(groups: list[_Group], wanted: str) -> int:
    number = _number(wanted, "gid")
    if number is not None:
        return number
    for group in groups:
        if group.name == wanted:
            return group.gid
    raise NotFound(
        f"unable to find group {wanted}: no matching entries in group file",
        hint="the name must be in the image's /etc/group; a number needs no entry",
    )


def _number(text: str, what: str) -> int | None:
    # Plain digits only: int() would also take "+1", "1_0" and other alphabets' digits.
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text) if len(text) < 20 else _HIGHEST + 1
    if number > _HIGHEST:
        raise InvalidRequest(f"invalid {what} {text}: uids and gids must be in range 0-{_HIGHEST}")
    return number


def _users(text: str) -> Iterator[_User]:
    for fields in _lines(text, 4):
        uid, gid = fields[2], fields[3]
        # A malformed entry counts for nothing: taken as 0 it would make its user root.
        if _is_id(uid) and _is_id(gid):
            yield _User(fields[0], int(uid), int(gid), fields[5] if len(fields) > 5 else "")


def _groups(text: str) -> Iterator[_Group]:
    for fields in _lines(text, 3):
        if _is_id(fields[2]):
            members = fields[3].split(",") if len(fields) > 3 else []
            names = tuple(name.strip() for name in members if name.strip())
            yield _Group(fields[0], int(fields[2]), names)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _HIGHEST


def _lines(text: str, least: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            fields = stripped.split(":")
            if len(fields) >= least:
                yield fields


def _read(root: int, path: str) -> str:
    try:
        # Not blocking: in a hostile image the file may be a fifo.
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, _MAX_SIZE).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
