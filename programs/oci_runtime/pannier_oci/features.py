"""``features``: what this runtime knows, whatever the host has of it.

Source: OCI runtime specification, features.md and features-linux.md.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pannier.linux.capabilities import CAPABILITIES
from pannier.linux.namespaces import CLONE_FLAGS
from pannier.linux.seccomp import known_architectures, known_flags
from pannier.linux.seccomp_rules import ACTIONS, OPERATORS
from pannier.runtimes.options import known_options
from pannier_oci.bundle import VERSIONS
from pannier_runtime_native.refusals import HOOKS

__all__ = ["features"]


def features() -> dict[str, Any]:
    """Return the document."""
    return {
        "ociVersionMin": VERSIONS[0],
        "ociVersionMax": VERSIONS[1],
        "hooks": list(HOOKS),
        "mountOptions": list(known_options()),
        "linux": {
            "namespaces": sorted(CLONE_FLAGS),
            "capabilities": list(CAPABILITIES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": False,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(known_architectures()),
                "knownFlags": sorted(known_flags()),
                "supportedFlags": sorted(known_flags()),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False, "schemata": False, "monitoring": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": False},
        },
        "annotations": {"io.pannier.version": version("pannier")},
    }
