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

__all__ = ["start_sealed"]

# Our package is put together by hand: its own __init__ would load the plugin machinery. The paths
# come from us because the interpreter runs isolated, without the site module.
_BOOT = """\
import sys
_, number, core, plugin = sys.argv
sys.path.insert(0, core)
package = type(sys)("pannier_runtime_native")
package.__path__ = [plugin]
sys.modules[package.__name__] = package
from pannier_runtime_native.{module} import main
main(int(number))
"""


def start_sealed(module: str, connection: socket.socket) -> subprocess.Popen[bytes]:
    """Start ``main(number)`` of a module of this package; *number* is the connection's descriptor.

    :raises DriverError: the interpreter cannot be copied.
    """
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    try:
        copy = sealed_copy(interpreter, "pannier")
    except OSError as error:
        raise _copy_failed(error) from error
    try:
        return subprocess.Popen(
            [
                interpreter,
                *("-I", "-S", "-X", "utf8", "-c", _BOOT.format(module=module)),
                str(connection.fileno()),
                str(Path(pannier.__file__).parents[1]),
                str(Path(__file__).parent),
            ],
            executable=f"/proc/self/fd/{copy}",
            stdin=subprocess.DEVNULL,
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
