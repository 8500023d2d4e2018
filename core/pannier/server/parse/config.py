"""The container's own configuration, which travels with images: the API's ``Config``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pannier.engine.model import ContainerConfig, HealthCheck
from pannier.engine.validate import signal_number
from pannier.errors import InvalidRequest
from pannier.server.parse.ports import parse_exposed

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

__all__ = ["parse_config"]

_HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
_MILLISECOND = 1_000_000
_HEALTH_KINDS = {"NONE", "CMD", "CMD-SHELL"}


def parse_config(fields: Fields) -> ContainerConfig:
    """Read a container's configuration from the top level of a create or commit body."""
    stop_timeout = fields.optional_integer("StopTimeout")
    return ContainerConfig(
        image=fields.text("Image"),
        hostname=_hostname(fields.text("Hostname")),
        domainname=fields.text("Domainname"),
        user=fields.text("User"),
        attach_stdin=fields.boolean("AttachStdin"),
        attach_stdout=fields.boolean("AttachStdout"),
        attach_stderr=fields.boolean("AttachStderr"),
        tty=fields.boolean("Tty"),
        open_stdin=fields.boolean("OpenStdin"),
        stdin_once=fields.boolean("StdinOnce"),
        env=_environment(fields.strings("Env")),
        cmd=fields.command("Cmd"),
        entrypoint=fields.command("Entrypoint"),
        working_dir=_working_dir(fields.text("WorkingDir")),
        volumes=_volumes(fields.object("Volumes").keys()),
        exposed_ports=parse_exposed(fields.object("ExposedPorts").keys()),
        labels=fields.string_map("Labels"),
        stop_signal=_stop_signal(fields.text("StopSignal")),
        stop_timeout=stop_timeout,
        health_check=_health_check(fields.object("Healthcheck")),
        shell=fields.strings("Shell"),
        on_build=fields.strings("OnBuild"),
        network_disabled=fields.boolean("NetworkDisabled"),
    )


def _hostname(text: str) -> str:
    if text and _HOSTNAME.fullmatch(text) is None:
        raise InvalidRequest(f"invalid hostname format: {text}")
    return text


def _environment(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value or value.startswith("="):
            raise InvalidRequest(f"invalid environment variable: {value}")
    return values


def _working_dir(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidRequest(
            f"the working directory '{path}' is invalid, it needs to be an absolute path"
        )
    return path


def _volumes(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        if not path.startswith("/"):
            raise InvalidRequest(f"invalid mount path: '{path}' mount path must be absolute")
        if not path.strip("/"):
            raise InvalidRequest("invalid specification: destination can't be '/'")
    return paths


def _stop_signal(text: str) -> str:
    if text:
        signal_number(text)
    return text


def _health_check(fields: Fields) -> HealthCheck | None:
    if not fields:
        return None
    test = fields.strings("Test")
    if test and test[0] not in _HEALTH_KINDS:
        raise InvalidRequest(f"Unknown healthcheck type '{test[0]}' (expected 'CMD')")
    times = {}
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        times[name] = fields.integer(name)
        if times[name] != 0 and times[name] < _MILLISECOND:
            raise InvalidRequest(f"{name} in Healthcheck cannot be less than 1ms")
    if fields.integer("Retries") < 0:
        raise InvalidRequest("Retries in Healthcheck cannot be negative")
    return HealthCheck(
        test=test,
        interval=times["Interval"],
        timeout=times["Timeout"],
        start_period=times["StartPeriod"],
        start_interval=times["StartInterval"],
        retries=fields.integer("Retries"),
    )
