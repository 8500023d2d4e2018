"""The commands: from parsed arguments to what they do and print."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier_oci.handed import count_listening
from pannier_oci.records import Records

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pannier_oci.creating import CreateOptions

# What a command needs is imported when it runs: its caller waits for imports.

__all__ = ["run_command"]


def run_command(found: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    commands: dict[str, Callable[[argparse.Namespace], int | None]] = {
        "create": _create,
        "run": _run,
        "start": _start,
        "state": _state,
        "kill": _kill,
        "delete": _delete,
        "exec": _exec,
        "features": _features,
        "list": _list,
        "ps": _ps,
        "pause": _pause,
        "resume": _resume,
        "update": _update,
    }
    return commands[found.command](found) or 0


def _records(found: argparse.Namespace) -> Records:
    return Records(found.root)


def _create_options(found: argparse.Namespace) -> CreateOptions:
    from pannier_oci.creating import CreateOptions  # noqa: PLC0415

    if found.no_pivot:
        raise UnsupportedOperation(
            "--no-pivot is not offered: a container could get out of a mere chroot"
        )
    return CreateOptions(
        bundle=found.bundle,
        console=found.console_socket,
        pid_file=found.pid_file,
        preserve=found.preserve_fds,
        listening=count_listening(),
        new_keyring=not found.no_new_keyring,
    )


def _create(found: argparse.Namespace) -> None:
    from pannier_oci.creating import create  # noqa: PLC0415

    create(_records(found), found.root, found.id, _create_options(found))


def _run(found: argparse.Namespace) -> int:
    from pannier.linux.process import set_child_subreaper  # noqa: PLC0415
    from pannier_oci.creating import create  # noqa: PLC0415
    from pannier_oci.execution import passing_signals_to  # noqa: PLC0415
    from pannier_oci.lifecycle import delete, start  # noqa: PLC0415

    records = _records(found)
    if not found.detach:
        set_child_subreaper()
    record = create(records, found.root, found.id, _create_options(found))
    try:
        start(records, found.root, found.id)
    except BaseException:
        delete(records, found.root, found.id, force=True)
        raise
    if found.detach:
        return 0
    with passing_signals_to(record.pid):
        _, status = os.waitpid(record.pid, 0)
    if not found.keep:
        delete(records, found.root, found.id, force=True)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _start(found: argparse.Namespace) -> None:
    from pannier_oci.lifecycle import start  # noqa: PLC0415

    start(_records(found), found.root, found.id)


def _state(found: argparse.Namespace) -> None:
    record = _records(found).read(found.id)
    more = {"rootfs": record.rootfs, "created": record.created, "owner": ""}
    _print(record.state() | more)


def _print(value: object) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201 - what was asked for


def _kill(found: argparse.Namespace) -> None:
    from pannier_oci.lifecycle import kill  # noqa: PLC0415

    number = _signal(found.signal)
    kill(_records(found), found.root, found.id, number, everyone=found.all)


def _signal(text: str) -> int:
    if text.isdigit():
        number = int(text)
        if number in signal.valid_signals() or number == 0:
            return number
    else:
        name = text.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name in signal.Signals.__members__:
            return signal.Signals[name].value
        base, _, offset = name.replace("-", "+-").partition("+")
        if base in {"SIGRTMIN", "SIGRTMAX"} and offset.lstrip("-").isdigit():
            number = signal.Signals[base].value + int(offset)
            if number in signal.valid_signals():
                return number
    raise InvalidRequest(f"unknown signal {text!r}")


def _delete(found: argparse.Namespace) -> None:
    from pannier_oci.lifecycle import delete  # noqa: PLC0415

    delete(_records(found), found.root, found.id, force=found.force)


def _exec(found: argparse.Namespace) -> int:
    from pannier_oci.execution import ExecOptions, execute  # noqa: PLC0415

    for name in ("process_label", "apparmor", "cgroup"):
        if getattr(found, name):
            raise UnsupportedOperation(f"--{name.replace('_', '-')} is not offered")
    args = found.args[1:] if found.args[:1] == ["--"] else found.args
    options = ExecOptions(
        process=found.process,
        args=tuple(args),
        cwd=found.cwd,
        env=tuple(found.env),
        user=found.user,
        groups=tuple(found.additional_gids),
        capabilities=tuple(found.cap),
        tty=found.tty,
        no_new_privileges=found.no_new_privs,
        detach=found.detach,
        console=found.console_socket,
        pid_file=found.pid_file,
        preserve=found.preserve_fds,
        ignore_paused=found.ignore_paused,
    )
    return execute(_records(found), found.root, found.id, options)


def _features(_: argparse.Namespace) -> None:
    from pannier_oci.features import features  # noqa: PLC0415

    _print(features())


def _list(found: argparse.Namespace) -> None:
    records = list(_records(found).all())
    if found.quiet:
        for record in records:
            print(record.id)  # noqa: T201 - what was asked for
        return
    rows = [
        record.state() | {"rootfs": record.rootfs, "created": record.created, "owner": "root"}
        for record in records
    ]
    if found.format == "json":
        _print(rows)
        return
    names = ("id", "pid", "status", "bundle", "created", "owner")
    _table(
        [[name.upper() for name in names], *([str(row[name]) for name in names] for row in rows)]
    )


def _table(rows: list[list[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("   ".join(cells).rstrip())  # noqa: T201 - what was asked for


def _ps(found: argparse.Namespace) -> None:
    from pannier_oci.groups import open_groups  # noqa: PLC0415

    record = _records(found).read(found.id)
    with open_groups(found.root, record.group.driver) as groups:
        pids = groups.pids(record.group)
    if found.format == "json":
        _print(pids)
    else:
        _table([["PID", "CMD"], *([str(pid), _command(pid)] for pid in pids)])


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return os.fsdecode(b" ".join(words)).strip()
    except OSError:
        return ""


def _pause(found: argparse.Namespace) -> None:
    from pannier_oci.lifecycle import pause  # noqa: PLC0415

    pause(_records(found), found.root, found.id)


def _resume(found: argparse.Namespace) -> None:
    from pannier_oci.lifecycle import resume  # noqa: PLC0415

    resume(_records(found), found.root, found.id)


def _update(found: argparse.Namespace) -> None:
    from pannier.errors import Conflict  # noqa: PLC0415
    from pannier_oci.groups import open_groups  # noqa: PLC0415
    from pannier_oci.limits import limits_of  # noqa: PLC0415

    for name in ("l3_cache_schema", "mem_bw_schema"):
        if getattr(found, name):
            raise UnsupportedOperation(f"--{name.replace('_', '-')} is not offered")
    record = _records(found).read(found.id)
    if record.status() not in {"created", "running", "paused"}:
        raise Conflict("container not running")
    resources = _resources(found)
    if resources.get("devices"):
        raise UnsupportedOperation("linux.resources.devices cannot be changed in a container")
    with open_groups(found.root, record.group.driver) as groups:
        groups.update(record.group, limits_of(resources))


def _resources(found: argparse.Namespace) -> dict[str, Any]:
    from pannier.drivers import oci  # noqa: PLC0415
    from pannier_oci.bundle import without_nulls  # noqa: PLC0415
    from pannier_oci.shape import check_shape  # noqa: PLC0415

    if found.resources is not None:
        try:
            text = sys.stdin.read() if found.resources == "-" else Path(found.resources).read_text()
            resources = json.loads(text)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{found.resources}: {error}") from error
        if not isinstance(resources, dict):
            raise InvalidRequest(f"{found.resources}: an object is expected")
        whole: dict[str, Any] = without_nulls(resources)
        check_shape(whole, oci.Resources, "resources")
        return whole
    return {
        "memory": {
            "limit": found.memory,
            "reservation": found.memory_reservation,
            "swap": found.memory_swap,
            "kernel": found.kernel_memory,
            "kernelTCP": found.kernel_memory_tcp,
        },
        "cpu": {
            "period": found.cpu_period,
            "quota": found.cpu_quota,
            "shares": found.cpu_share,
            "realtimePeriod": found.cpu_rt_period,
            "realtimeRuntime": found.cpu_rt_runtime,
            "burst": found.cpu_burst,
            "idle": found.cpu_idle,
            "cpus": found.cpuset_cpus,
            "mems": found.cpuset_mems,
        },
        "pids": {"limit": found.pids_limit},
        "blockIO": {"weight": found.blkio_weight},
    }
