"""The command line: what runc and the OCI command line interface have, by the same names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pannier.drivers.sizes import parse_size
from pannier.errors import InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    _Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 - has no other name

__all__ = ["parse"]

_ROOT = Path("/run/pannier-runtime")
_REFUSED = ("checkpoint", "restore", "events", "spec")
"""Commands of other runtimes that this one has not."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequest(message, hint=f"{self.prog} --help")


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return _BOOLEANS[text]


def _size(text: str) -> int:
    """Return the bytes of ``-1``, ``10m`` and the like."""
    return -1 if text == "-1" else parse_size(text, "a limit")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what was asked for: ``command`` is its name.

    :raises InvalidRequest: the command line is wrong.
    :raises UnsupportedOperation: an option that is not offered.
    """
    parser = _global()
    commands: _Commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_create, _process, _signals, _queries, _update):
        add(commands)
    for name in _REFUSED:
        # Whatever follows is taken: no word of it is an option of ours.
        refused = commands.add_parser(name, add_help=False, prefix_chars="\0")
        refused.add_argument("words", nargs="*")
    # A flag of its own is true, as for other runtimes: what follows is not its value.
    found = parser.parse_args(
        ["--systemd-cgroup=true" if word == "--systemd-cgroup" else word for word in words]
    )
    if found.systemd_cgroup:
        raise UnsupportedOperation(
            "--systemd-cgroup is not offered: control groups are made without systemd",
            hint="set cgroup_manager to cgroupfs",
        )
    if found.command in _REFUSED:
        raise UnsupportedOperation(f"the command {found.command!r} is not offered")
    if found.rootless == "true":
        raise UnsupportedOperation("--rootless=true is not offered: run it as root")
    return found


def _global() -> _Parser:
    parser = _Parser(
        prog="pannier-runtime",
        description="Run containers from OCI bundles.",
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--version", action="store_true", help="print the version")
    parser.add_argument("--root", type=Path, default=_ROOT, help="where the state is kept")
    parser.add_argument("--log", type=Path, help="write messages to this file too")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--debug", action="store_true", help="print an error's origin")
    parser.add_argument("--systemd-cgroup", type=_boolean, default=False, help="refused")
    parser.add_argument("--rootless", choices=("auto", "true", "false"), default="auto")
    return parser


def _bundled(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-b", "--bundle", type=Path, default=Path())
    parser.add_argument("--pid-file", type=Path)
    parser.add_argument("--console-socket", type=Path)
    parser.add_argument("--preserve-fds", type=int, default=0, metavar="N")
    parser.add_argument("--no-pivot", action="store_true", help="refused: it is not safe")
    parser.add_argument("--no-new-keyring", action="store_true")
    parser.add_argument("id")


def _create(commands: _Commands) -> None:
    _bundled(commands.add_parser("create", help="make a container from a bundle"))
    run = commands.add_parser("run", help="create, start, wait for and delete a container")
    run.add_argument("-d", "--detach", action="store_true")
    run.add_argument("--keep", action="store_true", help="do not delete it when it has ended")
    _bundled(run)


def _process(commands: _Commands) -> None:
    parser = commands.add_parser("exec", help="add a process to a container that runs")
    parser.add_argument("-p", "--process", type=Path, help="a process.json")
    parser.add_argument("--cwd")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-u", "--user", metavar="UID[:GID]")
    parser.add_argument("-g", "--additional-gids", action="append", type=int, default=[])
    parser.add_argument("-c", "--cap", action="append", default=[])
    parser.add_argument("-t", "--tty", action="store_true")
    parser.add_argument("-d", "--detach", action="store_true")
    parser.add_argument("--no-new-privs", action="store_true")
    parser.add_argument("--pid-file", type=Path)
    parser.add_argument("--console-socket", type=Path)
    parser.add_argument("--preserve-fds", type=int, default=0, metavar="N")
    parser.add_argument("--ignore-paused", action="store_true")
    for refused in ("--process-label", "--apparmor", "--cgroup"):
        parser.add_argument(refused, help="not offered")
    parser.add_argument("id")
    parser.add_argument("args", nargs=argparse.REMAINDER)


def _signals(commands: _Commands) -> None:
    parser = commands.add_parser("kill", help="send a signal: a name or a number")
    parser.add_argument("-a", "--all", action="store_true")
    parser.add_argument("id")
    parser.add_argument("signal", nargs="?", default="TERM")
    parser = commands.add_parser("delete", help="undo what create has made")
    parser.add_argument("-f", "--force", action="store_true")
    parser.add_argument("id")
    for name, text in (
        ("start", "let a created container's program execute"),
        ("pause", "stop every process of a container"),
        ("resume", "let them go on"),
    ):
        commands.add_parser(name, help=text).add_argument("id")


def _queries(commands: _Commands) -> None:
    commands.add_parser("state", help="print a container's state").add_argument("id")
    commands.add_parser("features", help="print what this runtime knows")
    parser = commands.add_parser("list", help="list containers")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    parser.add_argument("-q", "--quiet", action="store_true", help="ids only")
    parser = commands.add_parser("ps", help="list a container's processes")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    parser.add_argument("id")


def _update(commands: _Commands) -> None:
    parser = commands.add_parser("update", help="change a container's limits")
    parser.add_argument("-r", "--resources", metavar="FILE", help="linux.resources; - is stdin")
    for name in ("memory", "memory-reservation", "memory-swap"):
        parser.add_argument(f"--{name}", type=_size, metavar="BYTES")
    for name in ("cpu-period", "cpu-quota", "cpu-share", "cpu-rt-period", "cpu-rt-runtime"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("pids-limit", "blkio-weight"):
        parser.add_argument(f"--{name}", type=int)
    for refused in ("cpu-burst", "cpu-idle", "kernel-memory", "kernel-memory-tcp"):
        parser.add_argument(f"--{refused}", type=_size, help="not offered")
    for refused in ("l3-cache-schema", "mem-bw-schema"):
        parser.add_argument(f"--{refused}", help="not offered")
    for name in ("cpuset-cpus", "cpuset-mems"):
        parser.add_argument(f"--{name}")
    parser.add_argument("id")
