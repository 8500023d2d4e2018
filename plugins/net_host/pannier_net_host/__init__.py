"""The ``net_host`` driver."""
