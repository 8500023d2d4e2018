"""What a driver's class must be, before anything is asked of the driver."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
import warnings
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pannier.drivers.announced import old_forms
from pannier.drivers.log import LogCapability, LogDriver
from pannier.drivers.network import NetworkCapability, NetworkDriver
from pannier.drivers.resources import ResourceCapability, ResourceDriver
from pannier.drivers.runtime import RuntimeCapability, RuntimeDriver
from pannier.drivers.storage import StorageCapability, StorageDriver
from pannier.errors import ContractViolation

if TYPE_CHECKING:
    from enum import StrEnum

    from pannier.drivers.base import Driver

__all__ = ["EXPECTED", "Expected", "check_class", "claimed_id"]

_log = logging.getLogger("pannier.plugins")

_ID = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the core expects of one kind of driver.

    :param hook: the hook that supplies its classes.
    :param texts: attributes that the contract leaves to the class, and that are texts.
    """

    hook: str
    contract: type[Driver]
    capability: type[StrEnum]
    texts: tuple[str, ...] = ()


EXPECTED: dict[str, Expected] = {
    "storage": Expected("pannier_storage_drivers", StorageDriver, StorageCapability),
    "network": Expected("pannier_network_drivers", NetworkDriver, NetworkCapability),
    "resources": Expected(
        "pannier_resource_drivers", ResourceDriver, ResourceCapability, ("version",)
    ),
    "runtime": Expected("pannier_runtime_drivers", RuntimeDriver, RuntimeCapability),
    "log": Expected("pannier_log_drivers", LogDriver, LogCapability),
}


def check_class(kind: str, cls: Any) -> None:
    """Look at what a hook supplied as a driver's class.

    Code of the class may run meanwhile, as that of a property of its metaclass.

    :raises ContractViolation: it is not what its kind's contract says.
    """
    expected = EXPECTED[kind]
    if not (isinstance(cls, type) and issubclass(cls, expected.contract)):
        raise ContractViolation(
            f"{cls!r} is no {kind} driver", hint=f"derive it from {expected.contract.__name__}"
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ContractViolation(f"{cls.__name__} does not implement: {missing}")
    id = getattr(cls, "id", None)
    if not (isinstance(id, str) and _ID.fullmatch(id)):
        raise ContractViolation(
            f"{cls.__name__}.id is {id!r}",
            hint="an id is a lower-case word of at most 32 letters, digits and _.-",
        )
    if not isinstance(cls.priority, int):
        raise ContractViolation(f"{cls.__name__}.priority is {cls.priority!r}, and no number")
    for name in expected.texts:
        if not isinstance(getattr(cls, name, None), str):
            raise ContractViolation(f"{cls.__name__}.{name} must be a text")
    _check_capabilities(cls, expected.capability)
    if not dataclasses.is_dataclass(cls.config_type):
        raise ContractViolation(f"{cls.__name__}.config_type must be a dataclass")
    _check_forms(cls, expected.contract)


def _check_forms(cls: type[Driver], contract: type[Driver]) -> None:
    """Refuse what the contract has no place for any more; warn of what it will have none for."""
    for form in old_forms(contract, cls):
        if form.refused:
            raise ContractViolation(
                form.text, hint="use a newer version of the driver, or an older one of Pannier"
            )
        _log.warning("the driver %r will not be usable for ever: %s", cls.id, form.text)
        warnings.warn(form.text, DeprecationWarning, stacklevel=2)


def _check_capabilities(cls: type[Driver], capability: type[StrEnum]) -> None:
    declared: object = cls.capabilities
    if not (
        isinstance(declared, AbstractSet) and all(isinstance(one, capability) for one in declared)
    ):
        raise ContractViolation(
            f"{cls.__name__}.capabilities must be a set of members of {capability.__name__}",
            hint=f"as in: capabilities = frozenset({{{capability.__name__}.…}})",
        )


def claimed_id(cls: object) -> str:
    """Return the id that a class has written down, without running any code of its; or nothing."""
    id = vars(cls).get("id") if isinstance(cls, type) else None
    return id if isinstance(id, str) else ""
