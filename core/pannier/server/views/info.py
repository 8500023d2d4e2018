"""``/info``: what the engine and its host are and can do, honestly."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from pannier.drivers.resources import ResourceCapability as Can
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from pannier.engine.results import SystemInfo
    from pannier.server.identity import Identity

__all__ = ["info_view"]

_INDEX = "https://index.docker.io/v1/"


def info_view(info: SystemInfo, identity: Identity) -> dict[str, Any]:
    """Return a ``SystemInfo``."""
    can = info.resources
    return {
        "ID": info.id,
        "Containers": info.containers,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "Driver": info.storage_driver,
        "DriverStatus": [],
        "Plugins": {
            "Volume": ["local"],
            "Network": list(info.networks),
            "Authorization": None,
            "Log": list(info.logs),
        },
        "MemoryLimit": Can.MEMORY in can,
        "SwapLimit": Can.SWAP in can,
        "CpuCfsPeriod": Can.CPU in can,
        "CpuCfsQuota": Can.CPU in can,
        "CPUShares": Can.CPU in can,
        "CPUSet": Can.CPUSET in can,
        "PidsLimit": Can.PIDS in can,
        "IPv4Forwarding": info.ipv4_forwarding,
        "Debug": False,
        "NFd": info.open_files,
        "OomKillDisable": Can.MEMORY in can and info.cgroup_version == "1",
        "NGoroutines": info.threads,
        "SystemTime": rfc3339(time.time_ns()),
        "LoggingDriver": info.default_log,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": info.cgroup_version,
        "NEventsListener": info.listeners,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": info.architecture,
        "IndexServerAddress": _INDEX,
        "RegistryConfig": _registries(),
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "GenericResources": None,
        "DockerRootDir": info.root,
        "HttpProxy": _proxy("HTTP_PROXY"),
        "HttpsProxy": _proxy("HTTPS_PROXY"),
        "NoProxy": _proxy("NO_PROXY"),
        "Name": info.hostname,
        "Labels": [],
        "ExperimentalBuild": identity.experimental,
        "ServerVersion": identity.version,
        "Runtimes": {name: {"path": name} for name in info.runtimes},
        "DefaultRuntime": info.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": list(info.security),
        "CDISpecDirs": [],
        "Warnings": list(info.warnings) or None,
    }


def _proxy(name: str) -> str:
    """Return a proxy of the environment, without what it is paid with, as Docker writes it."""
    value = os.environ.get(name) or os.environ.get(name.lower()) or ""
    head, at, tail = value.rpartition("@")
    return (
        f"{head[: head.find('://') + 3] if '://' in head else ''}xxxxx:xxxxx@{tail}"
        if at
        else value
    )


def _registries() -> dict[str, Any]:
    return {
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
        "IndexConfigs": {
            "docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}
        },
        "Mirrors": None,
    }
