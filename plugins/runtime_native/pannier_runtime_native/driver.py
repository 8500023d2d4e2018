"""The native runtime driver: the daemon's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.base import NoConfig
from pannier.drivers.operations import Operation, Plan
from pannier.drivers.runtime import RuntimeCapability, RuntimeState
from pannier.errors import (
    Conflict,
    DriverError,
    DriverUnavailable,
    PannierError,
)
from pannier.runtimes.processes import process_job
from pannier.runtimes.supervised import SupervisedRuntime, exchange, hint_of
from pannier_runtime_native.planning import draw
from pannier_runtime_native.supply import ZygoteSupply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from pannier.drivers import oci
    from pannier.drivers.base import DriverContext
    from pannier.drivers.operations import Step, Timing
    from pannier.drivers.runtime import CreateRequest, StdioSpec
    from pannier.runtimes.jobs import ProcessJob
    from pannier_runtime_native.messages import Reply
    from pannier_runtime_native.planning import Blueprint

__all__ = ["NativeRuntime"]

_PATIENCE = 60.0
_PROBE_HINT = "run the engine as root, on Linux 5.12 or later with namespaces"


class NativeRuntime(SupervisedRuntime):
    """Runs containers by itself: no external runtime, a forked monitor for each container."""

    id: ClassVar[str] = "native"
    priority: ClassVar[int] = 100
    capabilities: ClassVar[AbstractSet[RuntimeCapability]] = frozenset(
        {
            RuntimeCapability.USER_NAMESPACE,
            RuntimeCapability.KEEP_DESCRIPTORS,
            RuntimeCapability.TIMINGS,
        }
    )
    config_type: ClassVar[type[NoConfig]] = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG003 - the contract's
        """Try namespaces and mounts in a short-lived process.

        :raises DriverUnavailable: the kernel refuses one of them.
        """
        zygotes = ZygoteSupply()
        try:
            reason = zygotes.try_namespaces()
        except PannierError as error:
            raise DriverUnavailable(error.message, hint=error.hint or _PROBE_HINT) from error
        except OSError as error:
            raise DriverUnavailable(f"the helper process: {error}", hint=_PROBE_HINT) from error
        finally:
            zygotes.close()
        if reason:
            raise DriverUnavailable(reason, hint=_PROBE_HINT)

    def __init__(self, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG002 - the contract's
        super().__init__(context)
        self._zygotes = ZygoteSupply()

    def close(self) -> None:
        """End the helper process; containers go on."""
        self._zygotes.close()

    def warm_up(self) -> None:
        """Start the helper process now, rather than for the first container.

        :raises DriverError: it could not be started.
        """
        self._zygotes.start()

    # ---- creating and starting

    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        """See :meth:`RuntimeDriver.plan_create`."""
        operation = _Create(self, request, draw(request, self.store.folder(request.id)))
        return Plan(self.id, [operation], operation.state)

    def create(self, request: CreateRequest, blueprint: Blueprint) -> Reply:
        """Carry out a plan; a failure leaves the folder for :meth:`delete`."""
        folder = self.store.create(request.id)
        with blueprint.descriptors.opened() as descriptors:
            reply = self._ask_new_shim(request.id, blueprint, descriptors)
            if reply is None and not (folder / "shim.sock").exists():
                # The helper was killed before it could fork. Another one is.
                reply = self._ask_new_shim(request.id, blueprint, descriptors)
        if reply is None:
            raise DriverError(f"the monitor of {request.id} has ended while it created it")
        if "error" in reply:
            raise _create_failed(request.id, blueprint, reply)
        return reply

    def _ask_new_shim(self, id: str, blueprint: Blueprint, descriptors: list[int]) -> Reply | None:
        with self._zygotes.spawn() as shim:
            shim.settimeout(_PATIENCE)
            return exchange(shim, blueprint.job, descriptors, id)

    def exec_process(self, process: oci.Process, stdio: StdioSpec) -> ProcessJob:  # noqa: ARG002 - the contract's
        """Return a process's message."""
        # The filter is the container's, and the shim knows it.
        return process_job(process, None, check_capabilities=False)


class _Create(Operation):
    """Everything between the folder of the state and the process that waits to be started."""

    def __init__(self, driver: NativeRuntime, request: CreateRequest, blueprint: Blueprint) -> None:
        self._driver = driver
        self._request = request
        self._blueprint = blueprint
        self._ours = True
        self._pid = 0

    def describe(self) -> Sequence[Step]:
        """Return every step, of the shim's and of the first process's."""
        return self._blueprint.describe()

    def execute(self) -> Sequence[Timing]:
        """Create the container."""
        try:
            reply = self._driver.create(self._request, self._blueprint)
        except Conflict:
            self._ours = False
            raise
        self._pid = reply["pid"]
        return self._blueprint.timings(reply["times"])

    def state(self) -> RuntimeState:
        """Return the state of the container just created."""
        return RuntimeState(self._request.id, "created", self._pid)

    def undo(self) -> None:
        """Delete the container, unless it was another's all along."""
        if self._ours:
            self._driver.delete(self._request.id)


def _create_failed(id: str, blueprint: Blueprint, reply: Reply) -> PannierError:
    index = reply.get("step", -1)
    step = blueprint.steps[index] if index >= 0 else None
    what = f"cannot {step}" if step is not None else f"cannot create {id}"
    text = f"{what}: {reply['text']}"
    return DriverError(text, hint=hint_of(text))
