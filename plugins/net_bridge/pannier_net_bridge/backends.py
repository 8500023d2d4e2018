"""Which firewall the configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.errors import ConfigError

if TYPE_CHECKING:
    from pannier_net_bridge.config import BridgeConfig
    from pannier_net_bridge.firewall import Firewall

__all__ = ["open_firewall"]


def open_firewall(config: BridgeConfig) -> Firewall:
    """Return the firewall that is configured.

    :raises ConfigError: there is none of that name.
    """
    if config.firewall == "nftables":
        from pannier_net_bridge.nft import NftFirewall  # noqa: PLC0415 - one of two is used

        return NftFirewall(config.table)
    if config.firewall == "iptables":
        from pannier_net_bridge.iptables import IptablesFirewall  # noqa: PLC0415 - as above

        return IptablesFirewall()
    raise ConfigError(
        f'[network.bridge] firewall: "{config.firewall}" is not known',
        hint='use "nftables" or "iptables"',
    )
