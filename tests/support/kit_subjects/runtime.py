"""What the runtime kit is tried on: drivers that each break the contract once.

Not collected by itself: ``test_other_kits`` runs it, and reads how each test went. Each class says
in *meant* which test must fail, and in *because* what that test must say.
"""

# ruff: noqa: D101, D106, N801 - what each class breaks, its name and *because* say

from __future__ import annotations

import copy
import os
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.operations import Action, Plan
from pannier.drivers.runtime import (
    Connection,
    CreateRequest,
    DetachEvent,
    ExecRequest,
    ExitEvent,
    RuntimeCapability,
    RuntimeState,
    RuntimeWatch,
)
from pannier.errors import Conflict, NotFound, StartFailed
from pannier.testing.runtime import RuntimeConformance
from pannier_runtime_native.driver import NativeRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pannier.drivers import oci

pytest_plugins = "pannier.testing.plugin"


class Subject(RuntimeConformance):
    """The kit with a driver that a subclass names."""

    driver: ClassVar[type[NativeRuntime]]
    patience = 1.0

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], NativeRuntime]:
        return lambda context: self.driver(context, NoConfig())


class Watch(RuntimeWatch):
    """Tells something else than a real watch."""

    def __init__(self, real: RuntimeWatch, change: Callable[[ExitEvent], ExitEvent]) -> None:
        self._real = real
        self._change = change

    def fileno(self) -> int:
        return self._real.fileno()

    def read(self) -> list[ExitEvent | DetachEvent]:
        return [
            self._change(event) if isinstance(event, ExitEvent) else event
            for event in self._real.read()
        ]

    def close(self) -> None:
        self._real.close()


class Exits(Watch):
    """Tells of exits alone."""

    def read(self) -> list[ExitEvent | DetachEvent]:
        return [event for event in super().read() if isinstance(event, ExitEvent)]


class Editing(NativeRuntime):
    """Changes the specification that it is given."""

    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        spec: Any = copy.deepcopy(request.spec)
        self.edit(spec)
        return super().plan_create(replace(request, spec=spec))

    def edit(self, spec: Any) -> None:
        raise NotImplementedError


class TestLosesTheExitStatusAtReopen(Subject):
    meant, because = "test_an_end_while_nobody_was_there", "137"

    class driver(NativeRuntime):
        def __init__(self, context: DriverContext, config: NoConfig) -> None:
            super().__init__(context, config)
            self.strangers = set(self.containers())

        def watch(self, id: str) -> RuntimeWatch:
            watch = super().watch(id)
            if id not in self.strangers:
                return watch
            return Watch(watch, lambda event: replace(event, exit_status=137, lost=True))


class TestTellsTheSignalAlone(Subject):
    meant, because = "test_a_signal_becomes_128_and_its_number", "9 =="

    class driver(NativeRuntime):
        def watch(self, id: str) -> RuntimeWatch:
            return Watch(
                super().watch(id),
                lambda event: replace(event, exit_status=event.exit_status % 128),
            )


class TestTellsTheEndOnce(Subject):
    meant, because = "test_an_end_is_told_to_all_and_later", "no event came|NotFound"

    class driver(NativeRuntime):
        told: ClassVar[set[str]] = set()

        def watch(self, id: str) -> RuntimeWatch:
            if id in self.told:
                raise NotFound("its end was told")
            return Watch(super().watch(id), self.note)

        def note(self, event: ExitEvent) -> ExitEvent:
            self.told.add(event.container)
            return event


class TestLeaksADescriptor(Subject):
    meant, because = "test_nothing_is_handed_down", "'9'"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            arguments = spec["process"]["args"]
            spec["process"]["args"] = ["sh", "-c", 'exec 9</; exec "$@"', "sh", *arguments]


class TestForgetsAtReopen(Subject):
    meant, because = "test_a_running_container_is_found_again", r"== \['box'\]"

    class driver(NativeRuntime):
        def __init__(self, context: DriverContext, config: NoConfig) -> None:
            super().__init__(context, config)
            self.strangers = set(super().containers())

        def containers(self) -> Iterator[str]:
            return (id for id in super().containers() if id not in self.strangers)


class TestSecondDeleteRaises(Subject):
    meant, because = "test_deleting_kills", "NotFound"

    class driver(NativeRuntime):
        def delete(self, id: str) -> None:
            self.state(id)
            super().delete(id)


class TestDeletesOnlyWhatHasStopped(Subject):
    meant, because = "test_deleting_kills", "Conflict"

    class driver(NativeRuntime):
        def delete(self, id: str) -> None:
            if id in self.containers() and self.state(id).status != "stopped":
                raise Conflict("it runs")
            super().delete(id)


class TestForgetsButDoesNotKill(Subject):
    meant, because = "test_deleting_kills", "is_alive"

    class driver(NativeRuntime):
        def delete(self, id: str) -> None:
            self.store.remove(id)


class TestExecutesAtOnce(Subject):
    meant, because = "test_the_states_are_the_specifications", "running"

    class driver(NativeRuntime):
        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            plan = super().plan_create(request)

            def result(inner: Callable[[], RuntimeState] = plan.result) -> RuntimeState:
                state = inner()
                self.start(request.id)
                return state

            plan.result = result
            return plan


class TestReplacesAContainer(Subject):
    meant, because = "test_an_id_is_had_once", "DID NOT RAISE"

    class driver(NativeRuntime):
        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            self.delete(request.id)
            return super().plan_create(request)


class TestKillsWhateverTheSignal(Subject):
    meant, because = "test_a_signal_reaches_its_handler", "137"

    class driver(NativeRuntime):
        def kill(self, id: str, signal_: int) -> None:
            del signal_
            super().kill(id, signal.SIGKILL)


class TestTellsNoErrno(Subject):
    meant, because = "test_a_program_that_cannot_be_executed", "errno"

    class driver(NativeRuntime):
        def start(
            self, id: str, connections: Sequence[Connection] = (), keep: Sequence[int] = ()
        ) -> None:
            try:
                super().start(id, connections, keep)
            except StartFailed as error:
                raise StartFailed(error.message, errno=1) from error


class TestUndoesNothing(Subject):
    meant, because = "test_a_failure_in_any_step_leaves_nothing", "before operation 1"

    class driver(NativeRuntime):
        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            plan = super().plan_create(request)
            plan.operations[:] = [
                Action(operation.describe()[0], operation.execute) for operation in plan.operations
            ]
            return plan


class TestTellsNobodyWhoLeaves(Subject):
    meant, because = "test_leaving_by_keys_is_told", "DetachEvent"

    class driver(NativeRuntime):
        def watch(self, id: str) -> RuntimeWatch:
            return Exits(super().watch(id), lambda event: event)


class TestSendsBeforeTheGateOpens(Subject):
    meant, because = "test_nothing_is_sent_before_the_gate_opens", "=="

    class driver(NativeRuntime):
        def attach(self, id: str, connection: Connection, exec_id: str | None = None) -> int:
            return super().attach(id, replace(connection, gate=-1), exec_id)


class TestTellsALateTime(Subject):
    meant, because = "test_the_log_and_a_client_meet", "=="

    class driver(NativeRuntime):
        def attach(self, id: str, connection: Connection, exec_id: str | None = None) -> int:
            return super().attach(id, connection, exec_id) + 10**9


class TestMixesTheStreams(Subject):
    meant, because = "test_streams_come_apart", "out.nerr.n|err"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            arguments = spec["process"]["args"]
            spec["process"]["args"] = ["sh", "-c", 'exec 2>&1; exec "$@"', "sh", *arguments]


class TestKeepsNoLog(Subject):
    meant, because = "test_the_log_holds_all_output", "log"

    class driver(NativeRuntime):
        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            return super().plan_create(replace(request, stdio=replace(request.stdio, log=None)))


class TestNeverResizes(Subject):
    meant, because = "test_a_terminals_size", "timed out|33 44"

    class driver(NativeRuntime):
        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            return super().plan_create(replace(request, stdio=replace(request.stdio, size=(0, 0))))


class TestDropsWhatWasPending(Subject):
    meant, because = "test_input_arrives_whole_and_ends", "=="

    class driver(NativeRuntime):
        def start(
            self, id: str, connections: Sequence[Connection] = (), keep: Sequence[int] = ()
        ) -> None:
            super().start(id, [replace(one, pending=b"") for one in connections], keep)


class TestAddsProcessesAsRoot(Subject):
    meant, because = "test_an_added_process_has_an_identity_of_its_own", "'0'"

    class driver(NativeRuntime):
        def exec(self, id: str, request: ExecRequest) -> int:
            process: oci.Process = {**request.process, "user": {"uid": 0, "gid": 0}}
            return super().exec(id, replace(request, process=process))


class TestPassesHooksOver(Subject):
    meant, because = "test_hooks_are_run_or_refused", "neither run nor refused"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            spec.pop("hooks", None)


class TestPassesAFieldOver(Subject):
    meant, because = "test_a_field_is_honoured_or_refused", "321"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            spec["process"].pop("oomScoreAdj", None)


class TestPassesTheFilterOver(Subject):
    meant, because = "test_a_system_call_filter", "made"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            spec["linux"].pop("seccomp", None)


class TestMasksNothing(Subject):
    meant, because = "test_masked_and_readonly_paths", "=="

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            spec["linux"]["maskedPaths"] = []


class TestWritesToAReadOnlyRoot(Subject):
    meant, because = "test_a_read_only_root", "refused"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            spec["root"].pop("readonly", None)


class TestGivesMoreCapabilities(Subject):
    meant, because = "test_capabilities", "CapBnd"

    class driver(Editing):
        def edit(self, spec: Any) -> None:
            spec["process"]["capabilities"]["bounding"].append("CAP_SYS_CHROOT")


class TestClosesWhatItShouldKeep(Subject):
    meant, because = "test_kept_descriptors_live_as_long_as_the_container", "DID NOT RAISE"

    class driver(NativeRuntime):
        def start(
            self, id: str, connections: Sequence[Connection] = (), keep: Sequence[int] = ()
        ) -> None:
            super().start(id, connections, keep[:0])


class TestPassesAnIdMapOver(Subject):
    meant, because = "test_user_namespaces_are_refused", "DID NOT RAISE"

    class driver(NativeRuntime):
        capabilities = NativeRuntime.capabilities - {RuntimeCapability.USER_NAMESPACE}

        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            return super().plan_create(replace(request, idmap=None))


class TestLeaksADescriptorOfOurs(Subject):
    meant, because = "test_describing_does_nothing", "descriptor: .*null"

    class driver(NativeRuntime):
        def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
            os.open("/dev/null", os.O_RDONLY)
            return super().plan_create(request)


class TestLeavesItsMonitor(Subject):
    meant, because = "test_deleting_kills", "process: "

    class driver(NativeRuntime):
        lives_as_long_as_we: ClassVar = os.pipe()

        def delete(self, id: str) -> None:
            folder = self.store.folder(id)
            if folder.exists():
                monitor = ("setsid", "--fork", "cat")
                subprocess.run(monitor, stdin=self.lives_as_long_as_we[0], cwd=folder, check=True)
            super().delete(id)
