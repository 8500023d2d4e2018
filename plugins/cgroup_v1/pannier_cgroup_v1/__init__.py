"""The ``cgroup_v1`` driver."""
