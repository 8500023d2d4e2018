"""``pannier network``: create, ls, rm, connect, disconnect."""

from __future__ import annotations

from pannier.cli.command import Command, UsageError, arg, flag, many, text
from pannier.cli.listing import map_label, print_rows
from pannier.cli.readers import filters, key_values
from pannier.cli.units import short_id
from pannier.client.api import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["CONNECT", "CREATE", "DISCONNECT", "LS", "RM"]

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def _path(name: str) -> str:
    return f"/networks/{quote(name)}"


def _ipam(values: Values) -> dict[str, Any]:
    """Return ``IPAM``: each subnet with the range, gateway and addresses that lie in it.

    :raises UsageError: where one of those lies in none.
    """
    import ipaddress

    subnets = values.many("subnet")
    if len(subnets) < max(len(values.many("ip-range")), len(values.many("gateway"))):
        raise _refused("every ip-range or gateway must have a corresponding subnet")
    try:
        pools = [(ipaddress.ip_network(one, strict=False), {"Subnet": one}) for one in subnets]
    except ValueError as error:
        raise _refused(f"invalid subnet: {error}") from error
    for number, (one, _) in enumerate(pools):
        # Those of different IP versions cannot overlap.
        if any(one.overlaps(other) for other, _ in pools[:number] if one.version == other.version):
            raise _refused("multiple overlapping subnet configuration is not supported")
    for name, what, key in (
        ("ip-range", "range", "IPRange"),
        ("gateway", "gateway", "Gateway"),
        ("aux-address", "aux-address", "AuxiliaryAddresses"),
    ):
        for given in values.many(name):
            label, _, address = given.rpartition("=")
            pool = _pool_of(pools, address, what)
            if name == "aux-address":
                pool.setdefault(key, {})[label] = address
            elif key in pool:
                raise _refused(
                    f"cannot configure multiple {what}s ({pool[key]}, {given}) on {pool['Subnet']}"
                )
            else:
                pool[key] = given
    configs = [pool for _, pool in pools]
    ipam: dict[str, Any] = {"Driver": values.text("ipam-driver"), "Config": configs}
    options = key_values(values.many("ipam-opt"), what="option")
    return {**ipam, "Options": options} if options else ipam


def _refused(message: str) -> UsageError:
    return UsageError(message, code=1)


def _pool_of(pools: list[tuple[Any, dict[str, Any]]], text: str, what: str) -> dict[str, Any]:
    import ipaddress

    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        address = None
    for network, pool in pools:
        if address is not None and address in network:
            return pool
    if not pools:
        raise _refused("every ip-range or gateway must have a corresponding subnet")
    raise _refused(f"no matching subnet for {what} {text}")


def _create(ctx: Context, values: Values) -> int:
    body: dict[str, Any] = {
        "Name": values.args[0],
        "Driver": values.text("driver"),
        "Options": key_values(values.many("opt"), what="option"),
        "Labels": key_values(values.many("label")),
        "IPAM": _ipam(values),
    }
    if values.text("scope"):
        body["Scope"] = values.text("scope")
    if values.text("config-from"):
        body["ConfigFrom"] = {"Network": values.text("config-from")}
    for name, key in (
        ("internal", "Internal"),
        ("attachable", "Attachable"),
        ("config-only", "ConfigOnly"),
        ("ingress", "Ingress"),
    ):
        if values.on(name):
            body[key] = True
    for name, key in (("ipv6", "EnableIPv6"), ("ipv4", "EnableIPv4")):
        if values.given(name):
            body[key] = values.on(name)
    answer = ctx.client.post("/networks/create", None, body)
    if answer.get("Warning"):
        ctx.warn([answer["Warning"]])
    ctx.out(str(answer["Id"]))
    return 0


def _ls(ctx: Context, values: Values) -> int:
    found = ctx.client.get("/networks", {"filters": filters(values.many("filter"))})
    whole = values.on("no-trunc")
    rows = []
    for one in sorted(found, key=lambda network: str(network["Name"])):
        labels = one.get("Labels") or {}
        rows.append(
            {
                "ID": one["Id"] if whole else short_id(one["Id"]),
                "Name": one["Name"],
                "Driver": one["Driver"],
                "Scope": one.get("Scope", "local"),
                "IPv4": str(bool(one.get("EnableIPv4"))).lower(),
                "IPv6": str(bool(one.get("EnableIPv6"))).lower(),
                "Internal": str(bool(one.get("Internal"))).lower(),
                "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
                "Label": map_label(labels),
                "CreatedAt": _created(one.get("Created", "")),
            }
        )
    if values.on("quiet") and not values.text("format"):
        for row in rows:
            ctx.out(row["ID"])
        return 0
    columns = ("ID", "Name", "Driver", "Scope")
    print_rows(ctx, rows, format=values.text("format"), headers=_HEADERS, columns=columns)
    return 0


def _created(stamp: str) -> str:
    """Return an RFC 3339 time as Go prints one."""
    date, _, rest = stamp.partition("T")
    return f"{date} {rest.removesuffix('Z')} +0000 UTC" if rest.endswith("Z") else stamp


def _rm(ctx: Context, values: Values) -> int:
    from pannier.client import APIError

    def remove(name: str) -> None:
        try:
            ctx.client.delete(_path(name))
        except APIError as error:
            if error.code != 404 or not values.on("force"):
                raise

    return ctx.each(values.args, remove)


def _connect(ctx: Context, values: Values) -> int:
    network, container = values.args
    address: dict[str, Any] = {}
    for name, key in (("ip", "IPv4Address"), ("ip6", "IPv6Address")):
        if values.given(name):
            address[key] = values.text(name)
    if values.many("link-local-ip"):
        address["LinkLocalIPs"] = values.many("link-local-ip")
    settings: dict[str, Any] = {
        "Aliases": values.many("alias"),
        "Links": values.many("link"),
        "DriverOpts": _driver_options(values.many("driver-opt")),
        "IPAMConfig": address,
    }
    if values.given("gw-priority"):
        settings["GwPriority"] = values.number("gw-priority")
    body = {
        "Container": container,
        "EndpointConfig": {key: value for key, value in settings.items() if value},
    }
    ctx.client.post(f"{_path(network)}/connect", None, body)
    return 0


def _driver_options(pairs: list[str]) -> dict[str, str]:
    if not all("=" in pair for pair in pairs):
        raise _refused("invalid key/value pair format in driver options")
    return key_values(pairs, what="option")


def _disconnect(ctx: Context, values: Values) -> int:
    network, container = values.args
    body = {"Container": container, "Force": values.on("force")}
    ctx.client.post(f"{_path(network)}/disconnect", None, body)
    return 0


_NETWORK_AND_CONTAINER = [
    arg("NETWORK", complete="network"),
    arg("CONTAINER", complete="container"),
]

CREATE = Command(
    "network create",
    "Create a network",
    _create,
    flags=[
        flag("--attachable", "Enable manual container attachment"),
        many("--aux-address", "Auxiliary addresses used by the driver", metavar="map"),
        text("--config-from", "The network from which to copy the configuration"),
        flag("--config-only", "Create a configuration only network"),
        text("-d,--driver", "Driver to manage the network", default="bridge"),
        many("--gateway", "IPv4 or IPv6 gateway for the subnet"),
        flag("--ingress", "Create swarm routing-mesh network"),
        flag("--internal", "Restrict external access to the network"),
        many("--ip-range", "Allocate container IPs from a sub-range"),
        text("--ipam-driver", "IP address management driver", default="default"),
        many("--ipam-opt", "Set IPAM driver specific options", metavar="map"),
        flag("--ipv4", "Enable or disable IPv4 address assignment"),
        flag("--ipv6", "Enable or disable IPv6 address assignment"),
        many("--label", "Set metadata on a network"),
        many("-o,--opt", "Set driver specific options", metavar="map"),
        text("--scope", "Control the network's scope"),
        many("--subnet", "Subnet in CIDR format that represents a network segment"),
    ],
    args=[arg("NETWORK")],
    example="pannier network create --subnet 10.99.0.0/24 backend",
)
LS = Command(
    "network ls",
    "List networks",
    _ls,
    flags=[
        many("-f,--filter", "Provide filter values (e.g. driver=bridge)", metavar="filter"),
        text("--format", "Format output: table, table TEMPLATE, json, or a template"),
        flag("--no-trunc", "Do not truncate the output"),
        flag("-q,--quiet", "Only display network IDs"),
    ],
    example="pannier network ls --filter driver=bridge",
)
RM = Command(
    "network rm",
    "Remove one or more networks",
    _rm,
    flags=[flag("-f,--force", "Do not error if the network does not exist")],
    args=[arg("NETWORK", most=None, complete="network")],
    example="pannier network rm backend",
)
CONNECT = Command(
    "network connect",
    "Connect a container to a network",
    _connect,
    flags=[
        many("--alias", "Add network-scoped alias for the container"),
        many("--driver-opt", "Driver options for the network"),
        text("--gw-priority", "Highest priority provides the default gateway", metavar="int"),
        text("--ip", "IPv4 address (e.g., 172.30.100.104)"),
        text("--ip6", "IPv6 address (e.g., 2001:db8::33)"),
        many("--link", "Add link to another container", complete="container"),
        many("--link-local-ip", "Add a link-local address for the container"),
    ],
    args=_NETWORK_AND_CONTAINER,
    example="pannier network connect --alias db backend web",
)
DISCONNECT = Command(
    "network disconnect",
    "Disconnect a container from a network",
    _disconnect,
    flags=[flag("-f,--force", "Force the container to disconnect from a network")],
    args=_NETWORK_AND_CONTAINER,
    example="pannier network disconnect backend web",
)
