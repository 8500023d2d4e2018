"""Changes of contracts that are announced: old forms work and warn, and are refused in time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pannier.driverclasses import EXPECTED, check_class
from pannier.drivers.announced import gains, goes, is_in_force, old_forms
from pannier.errors import ContractViolation, UnsupportedOperation
from pannier.guarding import guard
from support.fakes import FakeStorage, World

if TYPE_CHECKING:
    from pathlib import Path

FAR = "99.0"
"""A release that is yet to come, while the first ones have come."""


class Contract(FakeStorage):
    """A contract that changes, whose methods do something already."""

    @gains("loudly", since="0.1", required=FAR)
    def greet(self, name: str, *, loudly: bool = False) -> str:
        return name.upper() if loudly else name

    @goes(since="0.1", removed=FAR, instead="greet")
    def hail(self) -> None:
        pass

    @goes(since="0.1", removed=FAR)
    def bow(self) -> None:
        pass


class Today(Contract):
    """A driver that knows all of it."""

    def greet(self, name: str, *, loudly: bool = False) -> str:
        return f"{name}!" if loudly else name

    def hail(self) -> None:
        """Be there for older versions of Pannier."""


class Yesterday(Contract):
    """A driver of before that day."""

    def greet(self, name: str) -> str:  # type: ignore[override]  # that is what is tested
        return f"old {name}"


class LastYear(Contract):
    """A driver of long before."""

    def hail(self) -> None:
        pass

    def bow(self) -> None:
        pass


class Careless(Contract):
    """A driver that takes whatever comes."""

    def greet(self, name: str, **_: object) -> str:
        return name


@pytest.fixture(autouse=True)
def expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the changing contract be that of storage drivers."""
    monkeypatch.setitem(EXPECTED, "storage", replace(EXPECTED["storage"], contract=Contract))


@pytest.fixture
def overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the release from which on everything counts."""
    monkeypatch.setattr("pannier.__version__", f"{FAR}.1")


def test_an_old_form_is_named() -> None:
    """With the release from which on it does not do, and what to do about it."""
    assert list(old_forms(Contract, Today)) == []
    assert list(old_forms(Contract, Careless)) == []
    texts = [form.text for driver in (Yesterday, LastYear) for form in old_forms(Contract, driver)]
    assert texts == [
        "Yesterday.greet() must take 'loudly' from Pannier 99.0 on: add it, as Contract has it",
        "LastYear.bow() is not asked for from Pannier 99.0 on, and nothing in its place",
        "LastYear.hail() is not asked for from Pannier 99.0 on: implement greet()",
    ]


def test_an_old_form_warns_and_works(
    recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    """The author sees a warning of Python's, whoever runs it a line in the daemon's log."""
    check_class("storage", Today)
    assert not recwarn.list
    with pytest.warns(DeprecationWarning, match=r"greet\(\) must take 'loudly'"):
        check_class("storage", Yesterday)
    assert "Yesterday.greet() must take 'loudly'" in caplog.text


@pytest.mark.usefixtures("overdue")
def test_an_old_form_is_refused_in_time() -> None:
    """Nobody has to think of it when the release is made."""
    check_class("storage", Today)
    with pytest.raises(ContractViolation, match=r"greet\(\) must take 'loudly'") as caught:
        check_class("storage", Yesterday)
    assert "newer version of the driver" in str(caught.value.hint)
    with pytest.raises(ContractViolation, match=r"hail\(\) is not asked for"):
        check_class("storage", LastYear)
    assert [form.text for form in old_forms(Contract, LastYear) if "bow" in form.text] == []


def test_a_new_parameter_is_left_out_for_an_old_driver(tmp_path: Path) -> None:
    """Where it says nothing new. Where it does, the call is refused, and nothing passed over."""
    new: Any = guard(Today(World(tmp_path)), Contract)
    assert new.greet("you", loudly=True) == "you!"
    old: Any = guard(Yesterday(World(tmp_path)), Contract)
    assert old.greet("you") == old.greet("you", loudly=False) == "old you"
    with pytest.raises(UnsupportedOperation, match="does not know 'loudly' in greet") as caught:
        old.greet("you", loudly=True)
    assert "newer version" in str(caught.value.hint)


def test_a_release_lies_between() -> None:
    """What is announced cannot count in the release that announces it."""
    for required in ("0.2", "0.1", "0.2.9"):
        with pytest.raises(ValueError, match="no release lies between"):
            goes(since="0.2", removed=required)
    goes(since="0.9", removed="0.10")


@pytest.mark.parametrize("name", ["name", "flag"])
def test_a_parameter_that_cannot_be_left_out(name: str) -> None:
    """It has no default, or is given by its place: the contract cannot gain it so."""
    with pytest.raises(ValueError, match="must have a default"):

        @gains(name, since="0.1", required=FAR)
        def greet(name: str, flag: bool = False) -> None:
            del name, flag


def test_releases_are_compared_by_their_minor_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch release changes nothing; 0.10 comes after 0.9."""
    monkeypatch.setattr("pannier.__version__", "0.10.3")
    assert is_in_force("0.9")
    assert is_in_force("0.10")
    assert not is_in_force("0.11")
    assert not is_in_force("1.0")
