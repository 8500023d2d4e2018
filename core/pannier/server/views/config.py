"""``Config`` and ``HostConfig``, as ``inspect`` shows them: every field that clients read."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pannier.engine.specmounts import MASKED, READ_ONLY
from pannier.server.parse.limits import CPU_PERIOD
from pannier.server.views.mounts import mount_requests, tmpfs_requests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.network import PortRequest
    from pannier.drivers.resources import DeviceLimit, DeviceRule, Limits
    from pannier.engine.model import ContainerConfig, HealthCheck, HostOptions, LogConfig

__all__ = ["config_view", "health_view", "host_view", "log_view", "restart_view"]


def _or_none(values: Iterable[Any]) -> list[Any] | None:
    # Docker answers null, not [], where nothing was given.
    return list(values) or None


def config_view(config: ContainerConfig) -> dict[str, Any]:
    """Return a ``ContainerConfig``."""
    view: dict[str, Any] = {
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach_stdin,
        "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr,
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": list(config.env),
        "Cmd": None if config.cmd is None else list(config.cmd),
        "Image": config.image,
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "OnBuild": _or_none(config.on_build),
        "Labels": dict(config.labels),
    }
    if config.exposed_ports:
        view["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.health_check is not None:
        view["Healthcheck"] = health_view(config.health_check)
    if config.network_disabled:
        view["NetworkDisabled"] = True
    if config.stop_signal:
        view["StopSignal"] = config.stop_signal
    if config.stop_timeout is not None:
        view["StopTimeout"] = config.stop_timeout
    if config.shell:
        view["Shell"] = list(config.shell)
    return view


def health_view(health: HealthCheck) -> dict[str, Any]:
    """Return a ``HealthConfig``, without what is unset."""
    view = {
        "Test": list(health.test),
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
        "Retries": health.retries,
    }
    return {key: value for key, value in view.items() if value}


def log_view(log: LogConfig) -> dict[str, Any]:
    """Return a ``HostConfigLogConfig``."""
    return {"Type": log.driver, "Config": dict(log.options)}


def restart_view(host: HostOptions) -> dict[str, Any]:
    """Return a ``RestartPolicy``."""
    return {"Name": host.restart.name, "MaximumRetryCount": host.restart.maximum}


def host_view(host: HostOptions) -> dict[str, Any]:
    """Return a ``HostConfig``."""
    requests = mount_requests(host)
    tmpfs = tmpfs_requests(host)
    view: dict[str, Any] = {
        "Binds": _or_none(host.binds),
        "ContainerIDFile": host.container_id_file,
        "LogConfig": log_view(host.log),
        "NetworkMode": host.network_mode or "default",
        "PortBindings": _bindings_view(host.ports),
        "RestartPolicy": restart_view(host),
        "AutoRemove": host.auto_remove,
        "VolumeDriver": host.volume_driver,
        "VolumesFrom": _or_none(host.volumes_from),
        "ConsoleSize": list(host.console_size),
        "CapAdd": _or_none(host.cap_add),
        "CapDrop": _or_none(host.cap_drop),
        "CgroupnsMode": host.cgroupns_mode or "private",
        "Dns": list(host.dns),
        "DnsOptions": list(host.dns_options),
        "DnsSearch": list(host.dns_search),
        "ExtraHosts": _or_none(host.extra_hosts),
        "GroupAdd": _or_none(host.group_add),
        "IpcMode": host.ipc_mode or "private",
        "Cgroup": "",
        "Links": _or_none(host.links),
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": host.pid_mode,
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all,
        "ReadonlyRootfs": host.read_only,
        "SecurityOpt": _or_none(host.security_options),
        "UTSMode": host.uts_mode,
        "UsernsMode": host.userns_mode,
        "ShmSize": host.shm_size,
        "Runtime": host.runtime,
        "Isolation": host.isolation,
        **_limits_view(host.limits, by_cpus=host.by_cpus),
        "CgroupParent": host.cgroup_parent,
        "Devices": [
            {
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.access,
            }
            for device in host.devices
        ],
        "DeviceCgroupRules": _or_none(_rule_text(rule) for rule in host.device_rules),
        "DeviceRequests": None,
        "Ulimits": [
            {"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in host.ulimits
        ],
        "MaskedPaths": _paths(host.masked_paths, MASKED, host),
        "ReadonlyPaths": _paths(host.readonly_paths, READ_ONLY, host),
    }
    if requests:
        view["Mounts"] = requests
    if tmpfs:
        view["Tmpfs"] = tmpfs
    if host.sysctls:
        view["Sysctls"] = dict(host.sysctls)
    if host.storage_options:
        view["StorageOpt"] = dict(host.storage_options)
    if host.annotations:
        view["Annotations"] = dict(host.annotations)
    if host.init is not None:
        view["Init"] = host.init
    return view


def _paths(
    paths: tuple[str, ...] | None, default: tuple[str, ...], host: HostOptions
) -> list[str] | None:
    if paths is None:
        return None if host.privileged else list(default)
    return list(paths)


def _bindings_view(ports: tuple[PortRequest, ...]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        low, high = port.host_ports
        text = "" if not low else str(low) if low == high else f"{low}-{high}"
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(
            {"HostIp": port.host_ip, "HostPort": text}
        )
    return bindings


def _rule_text(rule: DeviceRule) -> str:
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    return f"{rule.type} {major}:{minor} {rule.access}"


def _limits_view(limits: Limits, *, by_cpus: bool) -> dict[str, Any]:
    # --cpus is kept as a quota of the period that it is counted in.
    nano = 0
    quota, period = limits.cpu_quota or 0, limits.cpu_period or 0
    if by_cpus:
        nano, quota, period = quota * (10**9 // CPU_PERIOD), 0, 0
    return {
        "CpuShares": limits.cpu_shares or 0,
        "Memory": limits.memory or 0,
        "NanoCpus": nano,
        "BlkioWeight": limits.block_weight or 0,
        "BlkioWeightDevice": _devices_view(limits.block_weight_device, "Weight"),
        "BlkioDeviceReadBps": _devices_view(limits.read_bps, "Rate"),
        "BlkioDeviceWriteBps": _devices_view(limits.write_bps, "Rate"),
        "BlkioDeviceReadIOps": _devices_view(limits.read_iops, "Rate"),
        "BlkioDeviceWriteIOps": _devices_view(limits.write_iops, "Rate"),
        "CpuPeriod": period,
        "CpuQuota": quota,
        "CpuRealtimePeriod": limits.cpu_realtime_period or 0,
        "CpuRealtimeRuntime": limits.cpu_realtime_runtime or 0,
        "CpusetCpus": limits.cpuset_cpus or "",
        "CpusetMems": limits.cpuset_mems or "",
        "KernelMemoryTCP": 0,
        "MemoryReservation": limits.memory_reservation or 0,
        "MemorySwap": limits.memory_swap or 0,
        "MemorySwappiness": limits.swappiness,
        "OomKillDisable": bool(limits.oom_kill_disable),
        "PidsLimit": limits.pids,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _devices_view(limits: tuple[DeviceLimit, ...], unit: str) -> list[dict[str, Any]]:
    return [
        {"Path": _block_device(limit.major, limit.minor), unit: limit.value} for limit in limits
    ]


@functools.lru_cache(maxsize=256)
def _block_device(major: int, minor: int) -> str:
    try:
        return f"/dev/{Path(f'/sys/dev/block/{major}:{minor}').readlink().name}"
    except OSError:
        return f"/dev/block/{major}:{minor}"
