"""The driver contracts: what a plugin implements, and the value types it is asked with."""

from pannier.drivers.base import Driver, DriverContext, IdMap, IdMapping, NoConfig
from pannier.drivers.log import LogDriver
from pannier.drivers.network import NetworkDriver
from pannier.drivers.operations import (
    Action,
    Opening,
    Operation,
    Plan,
    Recorder,
    Step,
    Timing,
    Transaction,
)
from pannier.drivers.resources import ResourceDriver
from pannier.drivers.runtime import RuntimeDriver
from pannier.drivers.storage import StorageDriver

__all__ = [
    "Action",
    "Driver",
    "DriverContext",
    "IdMap",
    "IdMapping",
    "LogDriver",
    "NetworkDriver",
    "NoConfig",
    "Opening",
    "Operation",
    "Plan",
    "Recorder",
    "ResourceDriver",
    "RuntimeDriver",
    "Step",
    "StorageDriver",
    "Timing",
    "Transaction",
]
