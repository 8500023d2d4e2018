"""Starting a helper process from a sealed copy of the interpreter.

Not from the host's file: what a container gets at through ``/proc/PID/exe`` of a process of ours
must be nothing that it could write to (CVE-2019-5736).
"""

from __future__ import annotations

import os
import subprocess
import sys
from errno import EACCES
from pathlib import Path
from typing import TYPE_CHECKING

import pannier
from pannier.errors import DriverError
from pannier.linux.sealed import sealed_copy

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

__all__ = ["start_sealed"]

# A plugin's package is put together by hand: its own __init__ would load the plugin machinery. The
# paths come from us because the interpreter runs isolated, without the site module.
_BOOT = """\
import sys
sys.path[:0] = {paths!r}
for name, folders in {packages!r}.items():
    package = type(sys)(name)
    package.__path__ = folders
    sys.modules[name] = package
from {module} import main
main(int(sys.argv[1]))
"""


def start_sealed(
    module: str,
    connection: socket.socket,
    *,
    packages: Iterable[str] = (),
    paths: Sequence[str] = (),
    errors: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``main(number)`` of a module; *number* is the connection's descriptor.

    :param packages: those of plugins, imported here already, that are needed there. What their
        ``__init__`` does is not done there.
    :param paths: where the rest of what it imports is found; Pannier itself and the standard
        library always are.
    :param errors: a descriptor for its output and errors; ours without it.
    :raises DriverError: the interpreter cannot be copied.
    """
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    boot = _BOOT.format(
        module=module,
        paths=[str(Path(pannier.__file__).parents[1]), *paths],
        packages={name: list(sys.modules[name].__path__) for name in packages},
    )
    try:
        copy = sealed_copy(interpreter, "pannier")
    except OSError as error:
        raise _copy_failed(error) from error
    try:
        return subprocess.Popen(
            [interpreter, "-I", "-S", "-X", "utf8", "-c", boot, str(connection.fileno())],
            executable=f"/proc/self/fd/{copy}",
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=(copy, connection.fileno()),
            env=_environment(),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(copy)


def _environment() -> dict[str, str]:
    """Return where the interpreter's own library is, which it cannot find from a copy of itself."""
    folder = Path(sys.base_prefix, "lib")
    if folder.parent in {Path("/usr"), Path("/usr/local")} or not any(folder.glob("libpython*")):
        return {}
    return {"LD_LIBRARY_PATH": str(folder)}


def _copy_failed(error: OSError) -> DriverError:
    hint = None
    if error.errno == EACCES:
        hint = "sysctl vm.memfd_noexec=1 or 0 allows executable copies in memory"
    return DriverError(f"cannot copy the interpreter into memory: {error.strerror}", hint=hint)
