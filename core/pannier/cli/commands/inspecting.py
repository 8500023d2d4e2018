"""``pannier top``, ``port`` and ``diff``."""

from __future__ import annotations

from pannier.cli.command import Command, arg
from pannier.cli.creating import container_path
from pannier.cli.tables import table
from pannier.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["DIFF", "PORT", "TOP"]

_CHANGES = ("C", "A", "D")
_TOP_MINIMUM = 20


def _top(ctx: Context, values: Values) -> int:
    name, *options = values.args
    query = {"ps_args": " ".join(options) or None}
    found = ctx.client.get(f"{container_path(name)}/top", query)
    rows = [[str(cell) for cell in row] for row in found.get("Processes") or []]
    for line in table(found["Titles"], rows, minimum=_TOP_MINIMUM):
        ctx.out(line)
    return 0


def _port(ctx: Context, values: Values) -> int:
    name = values.args[0]
    found = ctx.client.get(f"{container_path(name)}/json")
    ports = found["NetworkSettings"].get("Ports") or {}
    if len(values.args) > 1:
        wanted = values.args[1]
        key = wanted if "/" in wanted else f"{wanted}/tcp"
        bindings = ports.get(key)
        if not bindings:
            raise NotFound(f"No public port '{wanted}' published for {name}")
        for one in bindings:
            ctx.out(_address(one))
        return 0
    lines = [f"{port} -> {_address(one)}" for port in ports for one in ports[port] or ()]
    for line in sorted(lines, key=_order):
        ctx.out(line)
    return 0


def _order(line: str) -> tuple[int, str]:
    return int(line.partition("/")[0]), line


def _address(binding: dict[str, str]) -> str:
    address = binding.get("HostIp") or "0.0.0.0"
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{binding['HostPort']}"


def _diff(ctx: Context, values: Values) -> int:
    for change in ctx.client.get(f"{container_path(values.args[0])}/changes") or ():
        ctx.out(f"{_CHANGES[change['Kind']]} {change['Path']}")
    return 0


TOP = Command(
    "top",
    "Display the running processes of a container",
    _top,
    args=[arg("CONTAINER", complete="running"), arg("ps OPTIONS", least=0, most=None)],
    example="pannier top web -eo pid,comm",
    rest=True,
)
PORT = Command(
    "port",
    "List port mappings or a specific mapping for the container",
    _port,
    args=[arg("CONTAINER", complete="running"), arg("PRIVATE_PORT[/PROTO]", least=0)],
    example="pannier port web 80/tcp",
)
DIFF = Command(
    "diff",
    "Inspect changes to files or directories on a container's filesystem",
    _diff,
    args=[arg("CONTAINER", complete="container")],
    example="pannier diff web",
)
