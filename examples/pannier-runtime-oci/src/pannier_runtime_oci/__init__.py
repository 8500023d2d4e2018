"""Containers by an external OCI runtime: ``pannier run --runtime runc``.

Nothing is imported here: every container's monitor imports this package, and pays for it.
"""
