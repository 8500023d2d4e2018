"""``top``: a container's processes, read from the host's /proc; nothing in the container is run.

The columns are those of procps' ``ps`` for the arguments that are in use: ``-ef``, ``aux``, and
lists of ``-o``.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.engine.results import TopResult
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Process", "columns", "top"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

FULL = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
BSD = ("user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "btime", "command")
LONG = ("pid", "tty", "time", "comm")

_STANDARD = re.compile(r"-[aAdefFlwx]+")
_OLD = re.compile(r"[aefluwx]+")
"""Which processes are shown is settled, however it is asked; the letters of the form count."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, from /proc/PID/stat and its neighbours: proc(5). Times in seconds."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    tty: int
    state: str
    uid: int
    comm: str
    command: str
    cpu: float
    started: float
    priority: int
    nice: int
    threads: int
    vsize: int
    rss: int
    total_memory: int

    @property
    def age(self) -> float:
        """Seconds since it began; at least one hundredth."""
        return max(time.time() - self.started, 0.01)


def top(pids: list[int], arguments: str) -> TopResult:
    """Return a table of processes.

    :param arguments: as for ``ps``; empty for ``-ef``.
    :raises InvalidRequest: there is a column that is not known.
    """
    names = columns(arguments)
    boot, memory = _boot_time(), _total_memory()
    rows = []
    for pid in sorted(pids):
        process = _read(pid, boot, memory)
        if process is not None:
            rows.append(tuple(COLUMNS[name][1](process) for name in names))
    return TopResult(tuple(COLUMNS[name][0] for name in names), tuple(rows))


def columns(arguments: str) -> tuple[str, ...]:
    """Return the columns that ``ps`` arguments ask for.

    :raises InvalidRequest: one is not known.
    """
    words = shlex.split(arguments) if arguments else ["-ef"]
    chosen: list[str] = []
    full: tuple[str, ...] = LONG
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        flag, _, value = word.partition("=")
        if flag in ("-o", "o", "-eo", "--format", "-Ao", "axo", "-axo"):
            if not value and position < len(words):
                value = words[position]
                position += 1
            chosen += [name for name in value.replace(" ", ",").split(",") if name]
        elif word.startswith("-o"):
            chosen += [name for name in word[2:].split(",") if name]
        elif _STANDARD.fullmatch(word):
            full = FULL if "f" in word or "F" in word else full
        elif _OLD.fullmatch(word):
            full = BSD if "u" in word else full
        else:
            raise InvalidRequest(
                f"ps: unknown option {word!r}",
                hint="there are: -ef and its like, aux and its like, and -o with columns",
            )
    wanted = chosen or list(full)
    names = []
    for item in wanted:
        name = _ALIASES.get(item.partition("=")[0].lower(), item.partition("=")[0].lower())
        if name not in COLUMNS:
            raise InvalidRequest(
                f"ps: unknown column {item!r}", hint=f"there are: {', '.join(sorted(COLUMNS))}"
            )
        names.append(name)
    return tuple(names)


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def _read(pid: int, boot: float, memory: int) -> Process | None:
    folder = Path(f"/proc/{pid}")
    try:
        text = (folder / "stat").read_text(errors="replace")
        uid = (folder).stat().st_uid
        command = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    except OSError:  # it has ended
        return None
    # The name is in brackets and may hold any character, brackets included.
    comm = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0],
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        tty=int(fields[4]),
        uid=uid,
        comm=comm,
        command=command.decode(errors="replace") or f"[{comm}]",
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        priority=int(fields[15]),
        nice=int(fields[16]),
        threads=int(fields[17]),
        started=boot + int(fields[19]) / _TICKS,
        vsize=int(fields[20]),
        rss=int(fields[21]) * _PAGE,
        total_memory=memory,
    )


def _user(process: Process) -> str:
    try:
        return pwd.getpwuid(process.uid).pw_name
    except KeyError:
        return str(process.uid)


def _tty(process: Process) -> str:
    if not process.tty:
        return "?"
    major, minor = os.major(process.tty), os.minor(process.tty)
    return f"pts/{minor}" if major == 136 else f"tty{minor}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _elapsed(process: Process) -> str:
    whole = int(process.age)
    days, clock = whole // 86400, _clock(whole % 86400)
    return f"{days}-{clock}" if days else clock.removeprefix("00:")


def _begun(process: Process) -> str:
    pattern = "%H:%M" if process.age < 86400 else "%b%d"
    return time.strftime(pattern, time.localtime(process.started))


COLUMNS: dict[str, tuple[str, Callable[[Process], str]]] = {
    "uid": ("UID", _user),
    "user": ("USER", _user),
    "pid": ("PID", lambda process: str(process.pid)),
    "ppid": ("PPID", lambda process: str(process.ppid)),
    "pgid": ("PGID", lambda process: str(process.pgid)),
    "sid": ("SID", lambda process: str(process.sid)),
    "c": ("C", lambda process: str(int(100 * process.cpu / process.age))),
    "pcpu": ("%CPU", lambda process: f"{100 * process.cpu / process.age:.1f}"),
    "pmem": ("%MEM", lambda process: f"{100 * process.rss / process.total_memory:.1f}"),
    "vsz": ("VSZ", lambda process: str(process.vsize // 1024)),
    "rss": ("RSS", lambda process: str(process.rss // 1024)),
    "tty": ("TTY", _tty),
    "stat": ("STAT", lambda process: process.state),
    "start": ("START", _begun),
    "stime": ("STIME", _begun),
    "time": ("TIME", lambda process: _clock(process.cpu)),
    "btime": ("TIME", lambda process: f"{int(process.cpu) // 60}:{int(process.cpu) % 60:02}"),
    "etime": ("ELAPSED", _elapsed),
    "pri": ("PRI", lambda process: str(process.priority)),
    "ni": ("NI", lambda process: str(process.nice)),
    "nlwp": ("NLWP", lambda process: str(process.threads)),
    "comm": ("COMMAND", lambda process: process.comm),
    "command": ("COMMAND", lambda process: process.command),
    "cmd": ("CMD", lambda process: process.command),
}

_ALIASES = {
    "%cpu": "pcpu",
    "%mem": "pmem",
    "args": "command",
    "ucmd": "comm",
    "state": "stat",
    "s": "stat",
    "tt": "tty",
    "tname": "tty",
    "vsize": "vsz",
    "rssize": "rss",
    "nice": "ni",
    "thcount": "nlwp",
    "cputime": "time",
    "euser": "user",
    "uname": "user",
    "ruser": "user",
    "pgrp": "pgid",
    "sess": "sid",
    "session": "sid",
    "start_time": "stime",
    "bsdtime": "btime",
}
