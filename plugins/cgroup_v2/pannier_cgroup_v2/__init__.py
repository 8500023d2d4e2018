"""The ``cgroup_v2`` driver."""
