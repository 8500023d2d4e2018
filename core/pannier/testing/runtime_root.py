"""A container's root made of the host's own programs, so that a runtime can be tried anywhere.

Each program is copied together with its loader and libraries, to the same paths; the loader itself
says which those are (``ld.so --list``, as ldd(1) does). So it works with glibc and musl, and with a
static or a multi-call binary as well.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["PROGRAMS", "make_host_root"]

PROGRAMS: Final = (
    *("sh", "cat", "env", "false", "head", "id", "ls", "mkdir", "mknod", "pwd", "readlink"),
    *("sleep", "stat", "stty", "touch", "true", "tty", "wc"),
)
"""What the tests' scripts call; all of it is in coreutils, in busybox and in toybox."""

_FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr")
_PT_INTERP = 3
_LISTED = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")


def make_host_root(folder: Path) -> None:
    """Fill an empty folder with a root: the programs in /bin, two users, the usual folders.

    :raises FileNotFoundError: the host lacks one of the programs, with its name.
    """
    for name in _FOLDERS:
        (folder / name).mkdir()
        (folder / name).chmod(0o755)
    (folder / "tmp").chmod(0o1777)
    folder.chmod(0o755)
    (folder / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    (folder / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is None:
            raise FileNotFoundError(f"the program {name} is not on this host")
        shutil.copy(found, folder / "bin" / name)
        for library in _libraries(Path(found)):
            _copy_to_its_place(library, folder)


def _libraries(program: Path) -> list[Path]:
    """Return a program's loader and libraries; none of a static one."""
    loader = _loader(program)
    if loader is None:
        return []
    listed = subprocess.run(
        [loader, "--list", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [loader, *(Path(path) for path in _LISTED.findall(listed))]


def _copy_to_its_place(file: Path, root: Path) -> None:
    target = root / file.relative_to("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        target.chmod(0o755)


def _loader(program: Path) -> Path | None:
    """Return the interpreter that an ELF file names (elf(5), PT_INTERP); None where none."""
    data = program.read_bytes()
    if data[:4] != b"\x7fELF":
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    head = struct.unpack_from(f"{order}{'QQ' if wide else 'II'}", data, 0x18)
    size, count = struct.unpack_from(f"{order}HH", data, 0x36 if wide else 0x2A)
    for number in range(count):
        at = head[1] + number * size
        (kind,) = struct.unpack_from(f"{order}I", data, at)
        if kind == _PT_INTERP:
            offset_at, length_at = (at + 8, at + 32) if wide else (at + 4, at + 16)
            form = f"{order}{'Q' if wide else 'I'}"
            (offset,) = struct.unpack_from(form, data, offset_at)
            (length,) = struct.unpack_from(form, data, length_at)
            return Path(data[offset : offset + length].rstrip(b"\0").decode())
    return None
