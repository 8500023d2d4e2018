"""The ``storage_vfs`` driver."""
