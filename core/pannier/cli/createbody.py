"""The body of a create request, from the flags of ``run`` and ``create``."""

from __future__ import annotations

import os

from pannier.cli.command import UsageError
from pannier.cli.hostconfig import host_config
from pannier.cli.readers import key_values, read, read_lines, wrong
from pannier.cli.units import parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values

__all__ = ["create_body", "environment"]

_NETWORK_FLAGS = (
    *("network", "net", "network-alias", "net-alias"),
    *("ip", "ip6", "link-local-ip", "mac-address"),
)
_HEALTH = ("cmd", "interval", "retries", "start-interval", "start-period", "timeout")


def create_body(values: Values, *, detach: bool = False) -> dict[str, Any]:
    """Return the body of POST /containers/create.

    Fields that were not asked for are left out.

    :param detach: the container is not attached to (``run -d``).
    :raises UsageError: for malformed or contradicting flags, in the docker client's words.
    """
    if values.given("gpus"):
        raise UsageError("--gpus is not offered", hint="pass a device with --device")
    image, command = _image(values)
    body: dict[str, Any] = {"Image": image}
    if values.given("rootfs"):
        body["Rootfs"] = os.path.abspath(values.text("rootfs"))  # noqa: PTH100 - pathlib is slow
    if command:
        body["Cmd"] = command
    body.update(_streams(values, detach=detach))
    _process(values, body)
    body["Env"] = environment(values.many("env-file"), values.many("env"))
    body["Labels"] = _labels(values)
    _health(values, body)
    host = host_config(values)
    _outside(values, body, host)
    return {**_drop_empty(body), "Image": image, "HostConfig": _drop_empty(host)}


def _outside(values: Values, body: dict[str, Any], host: dict[str, Any]) -> None:
    """Add volumes, ports and networks; their modules are loaded where they are asked for."""
    if values.given("volume"):
        from pannier.cli.mounts import volumes

        host["Binds"], body["Volumes"] = volumes(values.many("volume"))
    if values.given("publish") or values.given("expose"):
        from pannier.cli.ports import expose, publish

        host["PortBindings"] = publish(values.many("publish"))
        exposed = [*host["PortBindings"], *expose(values.many("expose"))]
        body["ExposedPorts"] = {port: dict[str, str]() for port in exposed}
    if any(values.given(name) for name in _NETWORK_FLAGS):
        from pannier.cli.networks import networking

        mode, endpoints = networking(values)
        if endpoints:
            body["NetworkingConfig"] = {"EndpointsConfig": endpoints}
        if mode != "default":
            host["NetworkMode"] = mode


def _drop_empty(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value not in (None, "", [], {})}


def _image(values: Values) -> tuple[str, list[str]]:
    """Return the image and the command; with ``--rootfs`` there is no image."""
    if values.given("rootfs"):
        return "", values.args
    if not values.args:
        raise UsageError(
            "'run' and 'create' require an image, or --rootfs FOLDER",
            code=1,
            hint="for example: pannier run --rm --rootfs / echo hello",
        )
    return values.args[0], values.args[1:]


def _streams(values: Values, *, detach: bool) -> dict[str, Any]:
    streams = [one.lower() for one in values.many("attach")]
    for one in streams:
        if one not in ("stdin", "stdout", "stderr"):
            raise wrong("attach", one, "valid streams are STDIN, STDOUT and STDERR")
    interactive = values.on("interactive")
    found: dict[str, Any] = {}
    if values.on("tty"):
        found["Tty"] = True
    if interactive:
        found["OpenStdin"] = True
    if detach:
        return {**found, "AttachStdout": False, "AttachStderr": False}
    if interactive or "stdin" in streams:
        found["AttachStdin"] = True
        found["StdinOnce"] = interactive
    found["AttachStdout"] = not streams or "stdout" in streams
    found["AttachStderr"] = not streams or "stderr" in streams
    return found


def _process(values: Values, body: dict[str, Any]) -> None:
    for name, key in (
        ("hostname", "Hostname"),
        ("domainname", "Domainname"),
        ("user", "User"),
        ("workdir", "WorkingDir"),
        ("stop-signal", "StopSignal"),
    ):
        body[key] = values.text(name)
    body["StopTimeout"] = read(values, "stop-timeout", int)
    if values.given("entrypoint"):
        # An empty one takes the image's away.
        body["Entrypoint"] = [values.text("entrypoint")]


def environment(files: list[str], given: list[str]) -> list[str]:
    """Return ``Env``: files first, then flags; a bare name takes the value it has here.

    :raises UsageError: for an entry without a name.
    """
    found = []
    for path in files:
        for line in read_lines(path, "environment file"):
            if "=" in line:
                found.append(line)
            elif line in os.environ:
                found.append(f"{line}={os.environ[line]}")
    for one in given:
        name, equals, _ = one.partition("=")
        if not name:
            raise wrong("env", one, f"invalid environment variable: {one}")
        # A bare name that is not set here is sent bare: it unsets the image's.
        found.append(f"{one}={os.environ[one]}" if not equals and one in os.environ else one)
    return found


def _labels(values: Values) -> dict[str, str]:
    lines = [line for path in values.many("label-file") for line in read_lines(path, "label file")]
    return key_values([*lines, *values.many("label")])


def _health(values: Values, body: dict[str, Any]) -> None:
    asked = [name for name in _HEALTH if values.given(f"health-{name}")]
    if values.on("no-healthcheck"):
        if asked:
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        body["Healthcheck"] = {"Test": ["NONE"]}
        return
    if not asked:
        return
    check: dict[str, Any] = {}
    if values.text("health-cmd"):
        check["Test"] = ["CMD-SHELL", values.text("health-cmd")]
    for name, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        value = read(values, f"health-{name}", parse_duration)
        if value is not None:
            if value < 0:
                raise UsageError(f"--health-{name} cannot be negative")
            check[key] = value
    retries = read(values, "health-retries", int)
    if retries is not None:
        if retries < 0:
            raise UsageError("--health-retries cannot be negative")
        check["Retries"] = retries
    body["Healthcheck"] = check
