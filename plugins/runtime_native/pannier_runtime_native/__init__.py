"""The ``runtime_native`` driver."""
