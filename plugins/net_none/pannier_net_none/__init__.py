"""The ``net_none`` driver."""
