"""Networks that are only a configuration, and networks that are made from one.

A configuration (``--config-only``) has no driver and no containers. A network that depends on one
(``--config-from``) takes subnets, options and labels from there, and keeps it from being removed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from pannier.engine.model import Network
    from pannier.engine.networkstore import NetworkStore

__all__ = ["check_unused", "completed", "refuse_endpoint"]


def completed(network: Network, store: NetworkStore) -> Network:
    """Return a network to create with what its configuration says.

    :raises Forbidden: it says what a configuration, or a network made from one, may not.
    :raises NotFound: there is no such configuration.
    """
    if network.config_only and (network.internal or network.attachable):
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported.",
            hint="give them to the networks that are made from it",
        )
    if not network.config_from:
        return network
    if network.config_only:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    if network.ipv6 or network.labels or network.subnets:
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a "
            "configuration network"
        )
    if network.options:
        raise Forbidden(
            "network driver options are not supported if the network depends on a configuration "
            "network"
        )
    found = store.get(network.config_from)
    if found is None or not found.config_only:
        raise NotFound(
            f'configuration network "{network.config_from}" does not exist',
            hint="make one: pannier network create --config-only NAME",
        )
    return replace(
        network,
        ipv6=found.ipv6,
        subnets=found.subnets,
        auxiliary=found.auxiliary,
        options=found.options,
        labels=found.labels,
    )


def check_unused(network: Network, store: NetworkStore) -> None:
    """Refuse to remove a configuration that networks depend on.

    :raises Forbidden: with their names.
    """
    users = [one.name for one in store.all() if one.config_from == network.name]
    if network.config_only and users:
        raise Forbidden(
            f'error while removing network: configuration network "{network.name}" is in use',
            hint=f"remove first: {', '.join(users)}",
        )


def refuse_endpoint(network: Network) -> None:
    """Refuse that a container joins a configuration.

    :raises Forbidden: the network is one.
    """
    if network.config_only:
        raise Forbidden(
            "cannot create endpoint on configuration-only network",
            hint=f"make one from it: pannier network create --config-from {network.name} NAME",
        )
