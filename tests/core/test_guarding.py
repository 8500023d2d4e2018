"""Guards of drivers: what leaves them, and what does not."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest

from pannier import guarding
from pannier.answers import fits, returned
from pannier.bounded import Patience, describe
from pannier.driverclasses import EXPECTED
from pannier.drivers.network import NetworkSpec, Subnet
from pannier.drivers.operations import Action, Operation, Plan, Step, Transaction
from pannier.drivers.resources import OomWatch
from pannier.drivers.runtime import ExitEvent, RuntimeWatch
from pannier.drivers.storage import Change, ChangeKind, StorageDriver, Usage
from pannier.errors import (
    ContractViolation,
    DriverError,
    DriverUnavailable,
    NotFound,
    StartFailed,
    UnsupportedOperation,
)
from pannier.guarding import guard
from support.bad_drivers import Bare, BareRefusal, Mute, Rude, gives, raises, spoiled
from support.fakes import FakeStorage, World

CONTRACTS = [
    *(expected.contract for expected in EXPECTED.values()),
    RuntimeWatch,
    OomWatch,
]


@pytest.fixture
def bad(tmp_path: Path) -> Any:
    """Return a driver, for a test to spoil."""
    return FakeStorage(World(tmp_path))


@pytest.fixture
def guarded(bad: FakeStorage) -> StorageDriver:
    """Return its guard."""
    return guard(bad, StorageDriver)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_guard_offers_all_of_its_contract(contract: type) -> None:
    """Each public method is there, and each annotation of an answer has a check."""
    made = guarding._guard_class(contract)
    assert issubclass(made, contract)
    assert not getattr(made, "__abstractmethods__", None)
    for name in dir(contract):
        member = getattr(contract, name)
        if callable(member) and not name.startswith("_") and hasattr(member, "__code__"):
            assert getattr(made, name) is not member
            assert returned(contract, name) is not None


def test_a_guard_is_what_its_driver_is(bad: FakeStorage, guarded: StorageDriver) -> None:
    """Its id and capabilities are those of the driver's class, whatever an instance says later."""
    bad.capabilities = None  # type: ignore[assignment, misc]
    assert (guarded.id, guarded.kind) == ("fake", "storage")
    assert guarded.capabilities == type(bad).capabilities
    assert isinstance(guarded, StorageDriver)


def test_what_a_driver_says_on_purpose_is_passed_on(bad: Any, guarded: StorageDriver) -> None:
    """An error of the contract's is the caller's to handle; answers are handed on as they are."""
    with pytest.raises(NotFound):
        guarded.open_layer("sha256:0")
    bad.changes = gives([Change("/etc", ChangeKind.ADDED)])
    assert guarded.changes("x") == [Change("/etc", ChangeKind.ADDED)]
    bad.usage = raises(UnsupportedOperation("not here", hint="elsewhere"))
    with pytest.raises(UnsupportedOperation) as caught:
        guarded.usage("x")
    assert caught.value.hint == "elsewhere"


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        Rude(),
        Bare(),
        BareRefusal(),
        Mute("x"),
        spoiled(DriverError("x"), message=OSError(5, "x")),
        spoiled(UnsupportedOperation("x"), hint=b"x"),
        spoiled(NotFound("x"), status="404"),
        spoiled(StartFailed("x", errno=2), errno=None),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_else_it_raises_is_a_drivers_error(
    bad: Any, guarded: StorageDriver, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the driver and the method, and the log has the traceback for the author."""
    bad.usage = raises(error)
    with pytest.raises(DriverError) as caught:
        guarded.usage("x")
    assert caught.value.message == f"the storage driver 'fake' failed in usage(): {describe(error)}"
    assert caught.value.__cause__ is error
    assert "log" in (caught.value.hint or "")
    assert "bad_drivers.py" in caplog.text


def test_an_error_handed_on_as_a_message_is_its_words(bad: Any, guarded: StorageDriver) -> None:
    """No type checker keeps a driver from it; what is told can be written out and encoded."""
    inner: Any = OSError(28, "No space left on device")
    bad.usage = raises(NotFound(inner, hint=inner))
    with pytest.raises(NotFound) as caught:
        guarded.usage("x")
    words = "[Errno 28] No space left on device"
    assert (caught.value.message, caught.value.hint, str(caught.value)) == (words, words, words)


def test_an_error_without_words_is_called_by_its_kind() -> None:
    """Nobody is told nothing, and what asks for a reason finds one."""
    assert NotFound(str(TimeoutError())).message == "NotFound"
    assert describe(spoiled(NotFound("x"), message=" ")) == "NotFound"
    assert describe(KeyError()) == "KeyError"


def test_a_refusal_whose_hint_cannot_be_set(bad: Any, guarded: StorageDriver) -> None:
    """It is passed on without."""

    class Fixed(UnsupportedOperation):
        hint = property(lambda _: None)

        def __init__(self) -> None:
            self.message = "not here"

    bad.usage = raises(Fixed())
    with pytest.raises(Fixed):
        guarded.usage("x")


def test_what_the_host_refuses_is_no_fault_of_the_driver(
    bad: Any, guarded: StorageDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says who asked for what, and the log has no traceback of it."""
    bad.usage = raises(OSError(28, "No space left on device"))
    with pytest.raises(DriverError, match="No space left on device") as caught:
        guarded.usage("x")
    assert "doctor" in (caught.value.hint or "")
    assert caplog.text == ""


def test_an_error_of_a_stream_is_the_streams(bad: Any, guarded: StorageDriver) -> None:
    """A client that goes while a layer is read from it is not the driver's doing."""

    class Broken(io.RawIOBase):
        def read(self, _size: int = -1, /) -> bytes:
            raise ConnectionError("the input broke off")

    with pytest.raises(ConnectionError):
        guarded.create_layer("sha256:0", None, Broken())  # type: ignore[arg-type]
    bad.create_layer = raises(KeyError("x"))
    with pytest.raises(DriverError, match="create_layer"):
        guarded.create_layer("sha256:0", None, io.BytesIO())


def test_ids_are_taken_where_errors_are_still_the_drivers(
    bad: Any, guarded: StorageDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that fails half-way, or never ends, is found out in the guard."""

    def failing() -> Iterator[str]:
        yield "one"
        raise ZeroDivisionError

    bad.layers = failing
    with pytest.raises(DriverError, match=r"layers\(\): ZeroDivisionError"):
        list(guarded.layers())
    monkeypatch.setattr(guarding, "_MOST_LISTED", 1000)
    bad.layers = lambda: map(str, count())
    with pytest.raises(ContractViolation, match=r"layers\(\)"):
        list(guarded.layers())
    bad.layers = lambda: ["one", "two"]
    assert list(guarded.layers()) == ["one", "two"]


def test_a_plan_is_guarded_to_its_end(bad: Any, guarded: StorageDriver) -> None:
    """A failing undo keeps no other from being tried, and a result is looked at."""
    undone: list[str] = []
    steps = [
        Action(Step("do", "one"), lambda: None, lambda: undone.append("one")),
        Action(Step("do", "two"), lambda: None, raises(SystemExit())),
        Action(Step("do", "three"), raises(Rude())),
    ]
    bad.plan_create_container = lambda _: Plan("lie", list(steps), lambda: None)
    plan = guarded.plan_create_container(None)  # type: ignore[arg-type]
    assert plan.driver == "fake"
    assert [step.subject for step in plan.describe()] == ["one", "two", "three"]
    with pytest.raises(DriverError, match=r"an operation of plan_create_container\(\): Rude"):
        Transaction().run(plan)
    assert undone == ["one"]
    folder = os.open("/", os.O_RDONLY)
    try:
        bad.plan_open_root = lambda _: Plan("x", [], lambda: folder)
        assert Transaction().run(guarded.plan_open_root("x")) == folder
    finally:
        os.close(folder)
    with pytest.raises(ContractViolation, match=r"result\(\) gave \d+"):
        Transaction().run(guarded.plan_open_root("x"))


def test_times_that_are_none(bad: Any, guarded: StorageDriver) -> None:
    """A traced start does not keep what could not be shown; steps are looked at, too."""

    class Recording:
        def record(self, _driver: str, _timing: Any) -> None:
            raise AssertionError("nothing is to be recorded")

    step: Any = "mount it"
    bad.plan_create_container = lambda _: Plan("x", [Action(step, lambda: None)], lambda: None)
    plan = guarded.plan_create_container(None)  # type: ignore[arg-type]
    with pytest.raises(ContractViolation):
        Transaction(Recording()).run(plan)
    with pytest.raises(ContractViolation, match=r"plan_create_container\(\): describe\(\)"):
        plan.describe()


def test_an_operation_that_cannot_say_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """The log of a failed undo does without."""

    class Mute(Operation):
        describe = raises(KeyError("?"))
        execute = raises(ValueError("no"))
        undo = raises(ValueError("neither"))

    with pytest.raises(ValueError, match="no"):
        Transaction().run(Plan("x", [Mute()], lambda: None))
    assert "cannot be described" in caplog.text


def test_a_driver_in_which_many_hang_is_asked_nothing_more(
    bad: Any, guarded: StorageDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One driver does not take every thread; when its calls have come back it is asked again."""
    monkeypatch.setattr(guarding, "LONG", 0.0)
    monkeypatch.setattr(guarding, "MOST_LONG", 3)
    inside, gate = threading.Semaphore(0), threading.Event()

    def hang(_: str) -> Usage:
        inside.release()
        gate.wait()
        return Usage(1, 1)

    bad.usage = hang
    with ThreadPoolExecutor(3) as pool:
        hanging = [pool.submit(guarded.usage, "x") for _ in range(3)]
        for _ in hanging:
            assert inside.acquire(timeout=30)
        with pytest.raises(DriverError, match="3 earlier calls hang in it"):
            guarded.changes("x")
        gate.set()
        assert [one.result() for one in hanging] == [Usage(1, 1)] * 3
    assert guarded.changes("x") == []


def test_who_hangs_is_waited_for_once(bad: FakeStorage) -> None:
    """Until the call has come back, nothing more is asked; others are not concerned."""
    gate, back = threading.Event(), threading.Event()

    def hang() -> None:
        gate.wait()
        back.set()

    patience = Patience(0.1)
    with pytest.raises(DriverUnavailable, match=r"did not end within 0\.1 s; it hangs in"):
        patience.ask(bad, hang)
    with pytest.raises(DriverUnavailable, match="still hangs"):
        patience.ask(bad, lambda: None)
    hung = patience._hanging["the storage driver 'fake'"]
    gate.set()
    hung.join(30)
    assert patience.ask(bad, lambda: "well") == "well"


GOOD_SPEC = NetworkSpec("x", "x", subnets=(Subnet("10.0.0.0/8"),), options={"a": "b"})


@pytest.mark.parametrize(
    ("annotation", "good", "wrong"),
    [
        (int, [0, -1], [True, "1", 1.0, None]),
        (float, [0.5, 1], [True, "1"]),
        (str | None, ["", None], [b"", 0]),
        (Literal["new", "host"], ["new"], ["old", None, []]),
        (list[str], [[], ["a"]], ["ab", ("a",), [1], None]),
        (tuple[Path, ...], [(), (Path("/"),)], [[], ("/",), "/"]),
        (tuple[str, int], [("a", 1)], [("a",), ("a", "b"), ["a", 1]]),
        (Mapping[str, Path], [{}, {"": Path("/")}], [{"a": "/"}, {1: Path("/")}, []]),
        (AbstractSet[ChangeKind], [set(), frozenset(ChangeKind)], [[], {"A"}, None]),
        (Usage, [Usage(1, 2)], [Usage("1", 2), (1, 2), Usage]),  # type: ignore[arg-type]
        (
            NetworkSpec,
            [GOOD_SPEC],
            [NetworkSpec("x", "x", subnets=("10.0.0.0/8",))],  # type: ignore[arg-type]
        ),
        (list[ExitEvent], [[ExitEvent("x", None, 0, 1)]], [[ExitEvent("x", 7, 0, 1.0)]]),  # type: ignore[arg-type]
        (Any, [None, object()], []),
    ],
)
def test_what_an_annotation_asks_for(annotation: Any, good: list[Any], wrong: list[Any]) -> None:
    """Types are looked at down to the fields of value types, and a text is no list."""
    check = fits(annotation)
    assert [value for value in good if not check(value)] == []
    assert [value for value in wrong if check(value)] == []


@pytest.mark.parametrize("annotation", [Callable[[], int], "int", Iterator[int]])
def test_what_has_no_check_is_refused_when_it_is_made(annotation: Any) -> None:
    """A contract whose answers could not be looked at is found out by the tests above."""
    with pytest.raises(TypeError):
        fits(annotation)
