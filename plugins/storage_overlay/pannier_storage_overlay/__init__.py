"""The ``storage_overlay`` driver."""
