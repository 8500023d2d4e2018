"""The controllers of cgroup v1, one module each.

A module's ``writes`` turns limits into values for its files, in the order in which the kernel takes
them; its ``measure`` gives the fields of :class:`~pannier.drivers.resources.ResourceUsage` that
the controller counts.
"""

from __future__ import annotations
