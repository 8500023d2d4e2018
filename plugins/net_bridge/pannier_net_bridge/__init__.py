"""The ``net_bridge`` driver."""
