"""The kit for network drivers.

All tests happen on a host of their own, made of network namespaces: the machine's network is not
touched. The kit stands in for the runtime: it makes the namespaces that containers get, and hands
descriptors of them to the driver. See :mod:`pannier.testing.base` for how the class is used.
"""

from __future__ import annotations

from pannier.testing.network_addresses import AddressTests
from pannier.testing.network_endpoints import EndpointTests
from pannier.testing.network_faults import FaultTests
from pannier.testing.network_lab import HOST_ADDRESS, OUTSIDE_ADDRESS, UPLINK
from pannier.testing.network_ports import PortTests

__all__ = ["HOST_ADDRESS", "OUTSIDE_ADDRESS", "UPLINK", "NetworkConformance"]


class NetworkConformance(EndpointTests, AddressTests, PortTests, FaultTests):
    """The contract of :class:`~pannier.drivers.network.NetworkDriver`, as tests to inherit whole.

    They need root. Beside ``open_driver`` an author may set :attr:`argument` and
    :attr:`network_options`.
    """
