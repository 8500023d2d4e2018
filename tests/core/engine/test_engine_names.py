"""The names that a container may find, from what the engine knows of all containers."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.drivers.network import Endpoint
from pannier.engine.dnsnames import ContainerNames, HostResolvers, dns_names
from pannier.engine.model import ContainerConfig, EndpointOptions, HostOptions
from support.engine_rig import Rig, engine_test

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.engine.model import Container


def names_of(rig: Rig, container: Container, resolv_conf: str = "/nonexistent") -> ContainerNames:
    """Return what a container finds."""
    networks = rig.engine.networks.networks
    return ContainerNames(container, rig.engine._registry, networks, HostResolvers(resolv_conf))


async def on(rig: Rig, name: str, network: str, address: str, *aliases: str) -> Container:
    """Run a container on a network."""
    options = EndpointOptions(address=address, aliases=aliases)
    host = HostOptions(network_mode=network)
    return await rig.run(name, host=host, networks={network: options})


@engine_test
async def test_what_a_container_is_called(rig: Rig) -> None:
    """Its name, aliases, short id and host name, in any case, on the networks it is in."""
    await rig.engine.networks.create("lan")
    web = await on(rig, "web", "lan", "172.19.0.3")
    db = await on(rig, "DB", "lan", "172.19.0.2", "Store")
    other = await on(rig, "other", "lan", "172.19.0.9", "store")
    names = names_of(rig, web)
    for name in ("db", db.id[:12], "db.lan"):
        assert names.addresses(name) == ["172.19.0.2"]
    assert dns_names(db, db.networks["lan"]) == ["DB", "Store", db.id[:12]]
    assert sorted(names.addresses("store") or []) == ["172.19.0.2", "172.19.0.9"]
    assert names.addresses("nobody") is None
    assert names.name_of("172.19.0.2") == "DB.lan"
    assert names.name_of("172.19.0.200") is None
    assert names.owns(ipaddress.ip_address("172.19.0.200"))
    assert not names.owns(ipaddress.ip_address("172.18.0.200"))
    await rig.engine.containers.stop(other.id)
    assert names.addresses("store") == ["172.19.0.2"]
    await rig.engine.containers.rename("DB", "base")
    assert names.addresses("db") is None
    assert names.addresses("base") == ["172.19.0.2"]


@engine_test
async def test_a_container_finds_itself_before_it_is_known_to_run(rig: Rig) -> None:
    """What it was started with counts until then."""
    await rig.engine.networks.create("lan")
    created = await rig.create("web", host=HostOptions(network_mode="lan"))
    assert names_of(rig, created).addresses("web") is None
    started = replace(created, endpoints={"lan": Endpoint("id", "eth0", "172.19.0.5", 16)})
    assert names_of(rig, started).addresses("web") == ["172.19.0.5"]


@engine_test
async def test_a_container_that_has_left_all_its_networks_finds_nobody(rig: Rig) -> None:
    """Nor has it others asked: it is served as it is, not as it was started."""
    await rig.engine.networks.create("lan")
    path = rig.folder / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    await on(rig, "db", "lan", "172.19.0.2")
    web = await on(rig, "web", "lan", "172.19.0.3")
    names = names_of(rig, web, str(path))
    assert names.addresses("db") == ["172.19.0.2"]
    assert [one.address for one in names.upstreams()] == ["192.0.2.1"]
    await rig.engine.networks.disconnect("lan", "web")
    for name in ("db", "db.lan", "web"):
        assert names.addresses(name) is None
    assert names.name_of("172.19.0.2") is None
    assert not names.owns(ipaddress.ip_address("172.19.0.2"))
    assert names.upstreams() == []
    await rig.engine.networks.connect("lan", "web", EndpointOptions(address="172.19.0.4"))
    assert names.addresses("db") == ["172.19.0.2"]
    assert names.addresses("web") == ["172.19.0.4"]


@engine_test
async def test_networks_do_not_see_one_another(rig: Rig) -> None:
    """And the default network has no names at all."""
    await rig.engine.networks.create("lan")
    await rig.engine.networks.create("other")
    here = await on(rig, "here", "lan", "172.19.0.2")
    await on(rig, "there", "other", "172.20.0.2")
    plain = await rig.run("plain")
    assert names_of(rig, here).addresses("there") is None
    assert names_of(rig, here).addresses("plain") is None
    assert names_of(rig, plain).addresses("here") is None
    assert names_of(rig, plain).addresses("plain") is None
    assert not rig.engine._names.endpoints.named(plain)


@engine_test
async def test_links_are_the_asking_containers_own(rig: Rig) -> None:
    """By name or id, under the alias; they may be stopped, and are then not found."""
    await rig.engine.networks.create("lan")
    db = await on(rig, "db", "lan", "172.19.0.2")
    host = HostOptions(network_mode="lan", links=("absent",))
    links = ("db:store", f"{db.id[:12]}:byid")
    web = await rig.run("web", host=host, networks={"lan": EndpointOptions(links=links)})
    names = names_of(rig, web)
    assert names.addresses("store") == names.addresses("byid") == ["172.19.0.2"]
    assert names_of(rig, db).addresses("store") is None
    await rig.engine.containers.stop("db")
    assert names.addresses("store") is None


@engine_test
async def test_who_is_asked_for_other_names(rig: Rig) -> None:
    """The servers of ``--dns``, else the host's as they are now; nobody from within."""
    await rig.engine.networks.create("lan")
    await rig.engine.networks.create("closed", internal=True)
    path = rig.folder / "resolv.conf"
    path.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
    web = await on(rig, "web", "lan", "172.19.0.2")
    names = names_of(rig, web, str(path))
    asked = [(one.address, one.from_host) for one in names.upstreams()]
    assert asked == [("127.0.0.53", True), ("192.0.2.1", False)]
    staged = rig.folder / "new"
    staged.write_text("nameserver 192.0.2.2\n")
    staged.rename(path)
    assert [one.address for one in names.upstreams()] == ["192.0.2.2"]
    path.unlink()
    assert names.upstreams() == []
    host = HostOptions(network_mode="lan", dns=("127.0.0.1", "192.0.2.3"))
    own = await rig.run("own", host=host)
    found = names_of(rig, own, str(path)).upstreams()
    assert [(one.address, one.from_host) for one in found] == [
        ("127.0.0.1", False),
        ("192.0.2.3", False),
    ]
    within = await on(rig, "within", "closed", "172.20.0.2")
    assert names_of(rig, within, str(path)).upstreams() == []


def test_the_hosts_servers_are_read_once(tmp_path: Path) -> None:
    """Until the file changes."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    resolvers = HostResolvers(str(path))
    assert resolvers.servers() == ("192.0.2.1",)
    seen = path.stat()
    path.write_text("nameserver 192.0.2.2\n")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert resolvers.servers() == ("192.0.2.1",)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    assert resolvers.servers() == ("192.0.2.2",)


@engine_test
async def test_resolv_conf_names_the_embedded_server(rig: Rig) -> None:
    """Names without a dot are asked as they are, unless the user wants otherwise."""
    await rig.engine.networks.create("lan")
    for name, options, wanted in (
        ("plain", (), "ndots:0"),
        ("other", ("ndots:2", "timeout:1"), "ndots:2 timeout:1"),
    ):
        host = HostOptions(network_mode="lan", dns_options=options, dns_search=("a.test",))
        container = await rig.run(name, host=host, config=ContainerConfig())
        text = (rig.folder / "containers" / container.id / "resolv.conf").read_text()
        lines = text.splitlines()
        assert lines[:2] == ["nameserver 127.0.0.11", "search a.test"]
        assert lines[2].endswith(wanted)
        assert "ndots:0" not in text or wanted == "ndots:0"
