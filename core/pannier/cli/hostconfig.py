"""``HostConfig``: what the flags ask of the host."""

from __future__ import annotations

import json

from pannier.cli.command import UsageError
from pannier.cli.readers import key_values, read, read_text, wrong
from pannier.cli.units import parse_size
from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values

__all__ = [
    "extra_host",
    "host_config",
    "limits",
    "parse_ulimits",
    "restart_policy",
    "security_option",
]

_INT32 = 1 << 31
_SECURITY_KEYS = (
    "label",
    "apparmor",
    "seccomp",
    "no-new-privileges",
    "systempaths",
    "writable-cgroups",
)
#: sysctl(5): network settings belong to a network namespace, the others to an IPC namespace.
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")


def host_config(values: Values) -> dict[str, Any]:
    """Return ``HostConfig`` without ports, binds and network mode, which need the whole body.

    Fields that were not asked for are left out; the daemon knows the defaults.
    """
    host: dict[str, Any] = {}
    limits(values, host)
    host["ShmSize"] = read(values, "shm-size", parse_size)
    host["Ulimits"] = parse_ulimits(values.many("ulimit"))
    if values.given("oom-kill-disable"):
        host["OomKillDisable"] = values.on("oom-kill-disable")
    _block_io(values, host)
    _namespaces(values, host)
    _security(values, host)
    _devices(values, host)
    _names(values, host)
    _policies(values, host)
    if values.given("mount") or values.given("tmpfs"):
        from pannier.cli.mounts import mount, tmpfs

        host["Mounts"] = [mount(one) for one in values.many("mount")]
        host["Tmpfs"] = tmpfs(values.many("tmpfs"))
    return {key: value for key, value in host.items() if value not in (None, "", [], {})}


def _swap(text: str) -> int:
    return -1 if text == "-1" else parse_size(text)


def _cpus(text: str) -> int:
    """Return billionths of a processor, exactly: 1.5 is 1500000000."""
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdecimal() or len(fraction) > 9:
        reason = "value is too precise" if len(fraction) > 9 else "it is not a decimal number"
        raise InvalidRequest(f"failed to parse {text} as a number of CPUs: {reason}")
    return int(whole or "0") * 10**9 + int(fraction.ljust(9, "0"))


def limits(values: Values, host: dict[str, Any]) -> None:
    """Add the limits that ``run`` and ``update`` share; None where not asked for.

    :raises UsageError: where a value is malformed.
    """
    for name, key in (
        ("memory", "Memory"),
        ("memory-reservation", "MemoryReservation"),
    ):
        host[key] = read(values, name, parse_size)
    host["MemorySwap"] = read(values, "memory-swap", _swap)
    host["NanoCpus"] = read(values, "cpus", _cpus)
    for name, key in (
        ("cpu-period", "CpuPeriod"),
        ("cpu-quota", "CpuQuota"),
        ("cpu-rt-period", "CpuRealtimePeriod"),
        ("cpu-rt-runtime", "CpuRealtimeRuntime"),
        ("cpu-shares", "CpuShares"),
        ("oom-score-adj", "OomScoreAdj"),
        ("pids-limit", "PidsLimit"),
        ("memory-swappiness", "MemorySwappiness"),
        ("blkio-weight", "BlkioWeight"),
    ):
        if values.knows(name):
            host[key] = read(values, name, int)
    swappiness = host.get("MemorySwappiness")
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise UsageError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    for name, key in (("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems")):
        host[key] = values.text(name)


def parse_ulimits(specs: list[str]) -> list[dict[str, Any]]:
    """Return what ``--ulimit name=soft[:hard]`` asks for, in the API's form.

    :raises UsageError: one is malformed.
    """
    found = {}
    for spec in specs:
        name, equals, limits = spec.partition("=")
        soft, colon, hard = limits.partition(":")
        if not equals or not name:
            raise wrong("ulimit", spec, f"invalid ulimit argument: {spec}")
        try:
            low = int(soft)
            high = int(hard) if colon else low
        except ValueError:
            raise wrong("ulimit", spec, "the limits must be whole numbers") from None
        if high != -1 and (low > high or low == -1):
            raise wrong(
                "ulimit",
                spec,
                f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}",
            )
        found[name] = {"Name": name, "Soft": low, "Hard": high}
    return [found[name] for name in sorted(found)]


def _block_io(values: Values, host: dict[str, Any]) -> None:
    for name, key in (
        ("device-read-bps", "BlkioDeviceReadBps"),
        ("device-write-bps", "BlkioDeviceWriteBps"),
        ("device-read-iops", "BlkioDeviceReadIOps"),
        ("device-write-iops", "BlkioDeviceWriteIOps"),
    ):
        reader = parse_size if name.endswith("bps") else int
        host[key] = [
            {"Path": path, "Rate": rate}
            for path, rate in (_rate(name, spec, reader) for spec in values.many(name))
        ]
    weights = []
    for spec in values.many("blkio-weight-device"):
        path, weight = _rate("blkio-weight-device", spec, int)
        if weight and not 10 <= weight <= 1000:
            raise wrong("blkio-weight-device", spec, f"invalid weight for device: {spec}")
        weights.append({"Path": path, "Weight": weight})
    host["BlkioWeightDevice"] = weights


def _rate(name: str, spec: str, reader: Any) -> tuple[str, int]:
    path, colon, value = spec.partition(":")
    if not colon or not path.startswith("/dev/"):
        raise wrong(name, spec, f"bad format for device path: {spec}")
    try:
        rate = int(reader(value))
    except (ValueError, InvalidRequest):
        rate = -1
    if rate < 0:
        raise wrong(name, spec, f"invalid rate for device: {spec}")
    return path, rate


def _namespaces(values: Values, host: dict[str, Any]) -> None:
    allowed = {
        "pid": ("PidMode", "PID", ("", "host", "private")),
        "uts": ("UTSMode", "UTS", ("", "host", "private")),
        "userns": ("UsernsMode", "USER", ("", "host")),
        "cgroupns": ("CgroupnsMode", "CGROUP", ("", "host", "private")),
    }
    for name, (key, kind, words) in allowed.items():
        mode = values.text(name)
        joined = name == "pid" and mode.startswith("container:") and mode != "container:"
        if mode not in words and not joined:
            raise UsageError(f"--{name}: invalid {kind} mode")
        # "private" is the default, which these two modes spell as the empty text.
        host[key] = "" if name in ("pid", "uts") and mode == "private" else mode
    host["IpcMode"] = values.text("ipc")
    host["CgroupParent"] = values.text("cgroup-parent")


def _security(values: Values, host: dict[str, Any]) -> None:
    for name, key in (("cap-add", "CapAdd"), ("cap-drop", "CapDrop")):
        host[key] = sorted({_capability(one) for one in values.many(name)})
    if values.on("privileged"):
        host["Privileged"] = True
    if values.on("read-only"):
        host["ReadonlyRootfs"] = True
    options = []
    for option in values.many("security-opt"):
        if option == "systempaths=unconfined":
            # Not "not asked for": asked for as nothing at all.
            host["MaskedPaths"] = ()
            host["ReadonlyPaths"] = ()
        else:
            options.append(security_option(option))
    host["SecurityOpt"] = options


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"


def security_option(option: str) -> str:
    """Return ``--security-opt`` as the API has it: a profile's file as its content.

    :raises UsageError: the option is not known, or its file is no profile.
    """
    key, separator, value = option.partition("=")
    if not separator:
        key, separator, value = option.partition(":")
    if (not separator and option != "no-new-privileges") or key not in _SECURITY_KEYS:
        raise UsageError(f'Invalid --security-opt: "{option}"')
    if key != "seccomp" or value in ("unconfined", "builtin"):
        return option
    text = read_text(value, "seccomp profile")
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise UsageError(f"compacting json for seccomp profile failed: {error}") from error
    return "seccomp=" + json.dumps(profile, separators=(",", ":"), ensure_ascii=False)


def _devices(values: Values, host: dict[str, Any]) -> None:
    host["Devices"] = [_device(one) for one in values.many("device")]
    host["DeviceCgroupRules"] = values.many("device-cgroup-rule")


def _device(spec: str) -> dict[str, str]:
    parts = spec.split(":")
    if len(parts) > 3:
        raise UsageError(f"bad format for path: {spec}")
    source, target, mode = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, mode = parts[1], parts[2]
    elif len(parts) == 2:
        if parts[1] and set(parts[1]) <= set("rwm"):
            mode = parts[1]
        else:
            target = parts[1]
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}


def _names(values: Values, host: dict[str, Any]) -> None:
    host["Dns"] = values.many("dns")
    host["DnsOptions"] = [*values.many("dns-option"), *values.many("dns-opt")]
    host["DnsSearch"] = values.many("dns-search")
    host["ExtraHosts"] = [extra_host(one) for one in values.many("add-host")]
    host["Links"] = values.many("link")


def extra_host(spec: str) -> str:
    """Return ``--add-host`` as the API has it.

    :raises UsageError: it is malformed.
    """
    # Both a=1.2.3.4 and a:1.2.3.4 are written; the API knows the colon.
    positions = [at for at in (spec.find("="), spec.find(":")) if at >= 0]
    at = min(positions, default=-1)
    name, address = spec[: max(at, 0)], spec[at + 1 :]
    if at < 0 or not name or not address:
        raise wrong("add-host", spec, f'bad format for add-host: "{spec}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return f"{name}:{address}"


def _policies(values: Values, host: dict[str, Any]) -> None:
    if values.on("rm"):
        host["AutoRemove"] = True
    if values.given("init"):
        host["Init"] = values.on("init")
    if values.on("publish-all"):
        host["PublishAllPorts"] = True
    host["GroupAdd"] = values.many("group-add")
    host["VolumesFrom"] = values.many("volumes-from")
    host["VolumeDriver"] = values.text("volume-driver")
    host["Runtime"] = values.text("runtime")
    host["Isolation"] = values.text("isolation")
    host["ContainerIDFile"] = values.text("cidfile")
    host["Annotations"] = key_values(values.many("annotation"), what="annotation")
    host["Sysctls"] = _sysctls(values.many("sysctl"))
    storage = values.many("storage-opt")
    if any("=" not in one for one in storage):
        raise UsageError("invalid storage option", hint="write --storage-opt key=value")
    if driver := values.text("storage-driver"):
        storage.append(f"driver={driver}")
    host["StorageOpt"] = key_values(storage, what="storage option")
    policy = restart_policy(values.text("restart"))
    if policy and policy["Name"] != "no" and values.on("rm"):
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    host["RestartPolicy"] = policy
    host["LogConfig"] = _log_config(values)


def _sysctls(pairs: list[str]) -> dict[str, str]:
    """Return ``Sysctls``: only those that the kernel keeps for each namespace are taken."""
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not name.startswith(_SYSCTL_PREFIXES):
            raise wrong("sysctl", pair, f"sysctl '{pair}' is not allowed")
    return key_values(pairs, what="sysctl")


def restart_policy(text: str) -> dict[str, Any]:
    """Return ``RestartPolicy`` for ``no``, ``always``, ``on-failure[:N]``, ``unless-stopped``.

    :raises UsageError: where the count is no number.
    """
    if not text:
        return {}
    name, colon, count = text.partition(":")
    if colon and not name:
        raise UsageError("invalid restart policy format: no policy provided before colon")
    if count and not count.removeprefix("-").isdecimal():
        raise UsageError("invalid restart policy format: maximum retry count must be an integer")
    policy: dict[str, Any] = {"Name": name}
    if count:
        policy["MaximumRetryCount"] = int(count)
    return policy


def _log_config(values: Values) -> dict[str, Any]:
    driver = values.text("log-driver")
    options = key_values(values.many("log-opt"), what="log option")
    if driver == "none" and options:
        raise UsageError(f"invalid logging opts for driver {driver}")
    found: dict[str, Any] = {}
    if driver:
        found["Type"] = driver
    if options:
        found["Config"] = options
    return found
