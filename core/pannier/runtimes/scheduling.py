"""How a process of a container without a monitor is scheduled, set in the process itself."""

from __future__ import annotations

import os

from pannier.linux.scheduling import set_io_priority, set_personality, set_scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.runtimes.jobs import SchedulingJob

__all__ = ["schedule"]


def schedule(job: SchedulingJob) -> None:
    """Apply what was asked for, still as root."""
    if job["affinity"] is not None:
        os.sched_setaffinity(0, job["affinity"])
    if job["scheduler"] is not None:
        policy, nice, priority, flags, runtime, deadline, period = job["scheduler"]
        set_scheduler(
            policy,
            nice=nice,
            priority=priority,
            flags=flags,
            runtime=runtime,
            deadline=deadline,
            period=period,
        )
    if job["io_priority"] is not None:
        set_io_priority(*job["io_priority"])
    if job["personality"] is not None:
        set_personality(job["personality"])
