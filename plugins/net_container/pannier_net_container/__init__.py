"""The ``net_container`` driver."""
