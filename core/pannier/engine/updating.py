"""``docker update``: a container's limits and restart policy, changed while it runs or not."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pannier.engine.resolve import NO_SWAP_LIMIT, complete_limits, enforceable_swap
from pannier.engine.validate import check_restart
from pannier.engine.workers import uninterrupted
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers.resources import Limits
    from pannier.driverset import DriverSet
    from pannier.engine.model import Container, RestartPolicy
    from pannier.engine.registry import Live
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Updater"]


@dataclass(slots=True)
class Updater:
    """Changes what the kernel enforces and what is stored, both or neither."""

    store: Store
    drivers: DriverSet
    teller: Teller
    workers: Workers

    @uninterrupted
    async def update(
        self,
        live: Live,
        limits: Limits,
        restart: RestartPolicy | None = None,
        *,
        by_cpus: bool = False,
    ) -> tuple[str, ...]:
        """Change a container's limits and restart policy; what is None stays. Return warnings.

        :param by_cpus: the CPU quota is asked for as a number of CPUs.
        :raises InvalidRequest: limits that contradict one another, a policy that is none.
        :raises UnsupportedOperation: a limit that this host cannot enforce.
        """
        async with live.lock:
            container = live.container
            if restart is not None:
                check_restart(restart)
                if container.host.auto_remove and restart.name not in ("", "no"):
                    raise _cannot_update(
                        container,
                        "Restart policy cannot be updated because AutoRemove is enabled for the "
                        "container",
                    )
            _check_swap(limits, container)
            _check_cpus(limits, container, by_cpus=by_cpus)
            wanted = replace(container.host.limits, **_changed(limits))
            completed = complete_limits(wanted)
            resources = self.drivers.resources
            merged = await self.workers.run(enforceable_swap, completed, wanted, resources)
            host = replace(
                container.host,
                limits=merged,
                restart=restart or container.host.restart,
                by_cpus=by_cpus or container.host.by_cpus,
            )
            container = replace(container, host=host)
            await self.workers.run(self._update, container, live.container, limits)
            live.container = container
        self.teller.container(container, "update")
        return () if merged == completed else (NO_SWAP_LIMIT,)

    def _update(self, after: Container, before: Container, limits: Limits) -> None:
        running = before.state.running and _changed(limits)
        resources, parent = self.drivers.resources, before.host.cgroup_parent
        if running:
            if limits.memory is not None and limits.memory_swap is None:
                limits = replace(limits, memory_swap=after.host.limits.memory_swap)
            resources.update(after.id, limits, parent)
        try:
            self.store.save(after)
        except BaseException:
            if running:
                resources.update(before.id, before.host.limits, parent)
            raise


def _check_swap(limits: Limits, container: Container) -> None:
    swap = container.host.limits.memory_swap or 0
    if limits.memory and not limits.memory_swap and 0 < swap < limits.memory:
        raise _cannot_update(
            container,
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time",
        )


def _check_cpus(limits: Limits, container: Container, *, by_cpus: bool) -> None:
    """Refuse a quota of one kind where one of the other has been set, in Docker's words."""
    present = container.host.limits
    if by_cpus:
        for name, value in (("Quota", present.cpu_quota), ("Period", present.cpu_period)):
            if value and not container.host.by_cpus:
                raise _cannot_update(
                    container,
                    f"Conflicting options: Nano CPUs cannot be updated as CPU {name} has already "
                    f"been set",
                )
    elif container.host.by_cpus:
        for name, value in (("Quota", limits.cpu_quota), ("Period", limits.cpu_period)):
            if value:
                raise _cannot_update(
                    container,
                    f"Conflicting options: CPU {name} cannot be updated as NanoCPUs has already "
                    f"been set",
                )


def _cannot_update(container: Container, why: str) -> InvalidRequest:
    return InvalidRequest(f"Cannot update container {container.id}: {why}")


def _changed(limits: Limits) -> dict[str, Any]:
    """Return the limits that are set."""
    found = {item.name: getattr(limits, item.name) for item in fields(limits)}
    return {name: value for name, value in found.items() if value not in (None, (), {})}
