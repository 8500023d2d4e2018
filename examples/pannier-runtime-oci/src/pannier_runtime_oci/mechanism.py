"""How a container is made, in its monitor: the external runtime is called, in a place of its own.

The runtime's commands come and go; the processes that they leave behind become the monitor's
children, since it is a subreaper.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.runtimes.mechanism import Failure, Launched, Mechanism

from pannier_runtime_oci import place
from pannier_runtime_oci.console import Console
from pannier_runtime_oci.external import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.runtimes.jobs import StdioJob

    from pannier_runtime_oci.jobs import ContainerJob

__all__ = ["OciMechanism"]


class OciMechanism(Mechanism):
    """One container. The working directory is its bundle."""

    job: ContainerJob

    def __init__(self, id: str, job: ContainerJob, descriptors: Sequence[int]) -> None:
        super().__init__(id, job, descriptors)
        self._runtime = Runtime(job["runtime"], id)

    def create(self, stdio: StdioJob, streams: Sequence[int]) -> Launched:
        """Prepare the place, and have the runtime create the container in it."""
        job = self.job
        Path("config.json").write_text(job["config"], encoding="utf-8")
        place.prepare(self.descriptors[job["root"]])
        place.attach(job["binds"], self.descriptors)
        if job["groups"] is not None:
            place.attach_groups(job["groups"], self.descriptors)
        if job["own_cgroups"]:
            place.make_cgroup_namespace(job["group"], self._procs())
        with Console(wanted=stdio["terminal"]) as console:
            return Launched(self._runtime.create(streams), console.master())

    def _procs(self) -> list[int]:
        return [self.descriptors[number] for number in self.job["procs"]]

    def noted(self, pid: int) -> None:
        """Have the process leave the runtime's group: by one of the two it can be found."""
        for descriptor in self._procs():
            os.write(descriptor, b"%d" % pid)
        place.leave_group(self.job["group"])

    def start(self) -> None:
        """Have the runtime start it."""
        self._runtime.start()

    def execute(
        self, process: str, stdio: StdioJob, streams: Sequence[int], procs: Sequence[int]
    ) -> Launched:
        """Have the runtime add a process."""
        with Console(wanted=stdio["terminal"]) as console:
            pid = self._runtime.execute(process, streams, procs)
            try:
                return Launched(pid, console.master())
            except Failure:  # it runs, and nobody could talk to it
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise

    def delete(self) -> None:
        """Have the runtime forget it."""
        with suppress(Failure):
            self._runtime.delete()
        place.leave_group(self.job["group"])
