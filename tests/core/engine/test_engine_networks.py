"""Networks: predefined and made, joined and left; and what /etc/hosts says of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pannier.bounded import Patience
from pannier.drivers.network import Endpoint, PortBinding, PortRequest, Subnet
from pannier.engine.hostfiles import Link, hosts, resolv_conf
from pannier.engine.model import ContainerConfig, EndpointOptions, HostOptions
from pannier.engine.wiring import Wiring
from pannier.errors import (
    Conflict,
    DriverError,
    Forbidden,
    InvalidRequest,
    NotFound,
    UnsupportedOperation,
)
from support.engine_rig import Rig, engine_test
from support.fakes import FakeNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.network import NetworkDriver, NetworkSpec
    from pannier.engine.model import Container


@engine_test
async def test_predefined_networks(rig: Rig) -> None:
    """One for each driver that can stand alone; they cannot be removed or made again."""
    networks = rig.engine.networks
    assert sorted(item.name for item in networks.list({})) == ["bridge", "host", "none"]
    assert rig.bridge.created["bridge"].name == "bridge"
    assert len(networks.get("bridge").id) == 64
    assert networks.get("bridge").subnets == (Subnet("172.18.0.0/16", "172.18.0.1"),)
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        await networks.remove("bridge")
    for name in ("host", "default"):
        with pytest.raises(Forbidden, match=f"not permitted on predefined {name} network"):
            await networks.create(name)
    await networks.create("lan")
    with pytest.raises(Conflict, match="network with name lan already exists"):
        await networks.create("lan")
    with pytest.raises(Forbidden, match='only one instance of "host" network is allowed'):
        await networks.create("other", driver="host")


@engine_test
async def test_a_network_of_a_users(rig: Rig) -> None:
    """It has an id, gets its subnet from its driver, and goes when nobody is in it."""
    networks = rig.engine.networks
    lan = await networks.create("lan", labels={"a": "1"}, internal=True)
    assert networks.get(lan.id[:8]) == networks.get("lan") == lan
    assert lan.subnets == (Subnet("172.19.0.0/16", "172.19.0.1"),)
    assert rig.bridge.created[lan.id].internal
    assert [item.name for item in networks.list({"label": ("a=1",)})] == ["lan"]
    assert [item.name for item in networks.list({"type": ("custom",)})] == ["lan"]
    assert [item.name for item in networks.list({"dangling": ("true",)})] == ["lan"]
    container = await rig.run("web", host=HostOptions(network_mode="lan"))
    with pytest.raises(Forbidden, match="has active endpoints"):
        await networks.remove("lan")
    await rig.engine.containers.stop("web")
    await networks.remove("lan")
    assert lan.id not in rig.bridge.created
    with pytest.raises(NotFound, match="network lan not found"):
        networks.get("lan")
    with pytest.raises(NotFound, match="network lan not found"):
        await rig.engine.containers.start(container.id)
    assert rig.actions("network") == ["create", "connect", "disconnect", "destroy"]


@engine_test
async def test_a_network_that_cannot_be_made_is_not_kept(rig: Rig) -> None:
    """Not even its name. A subnet that is taken is forbidden, as Docker has it."""

    def refuse(_: object) -> None:
        raise Conflict("the subnet overlaps", hint="choose another")

    rig.bridge.create_network = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(Forbidden, match="overlaps") as caught:
        await rig.engine.networks.create("lan")
    assert caught.value.hint == "choose another"
    with pytest.raises(NotFound):
        rig.engine.networks.get("lan")
    with pytest.raises(NotFound, match='plugin "tunnel" not found'):
        await rig.engine.networks.create("lan", driver="tunnel")
    with pytest.raises(InvalidRequest, match="invalid network name"):
        await rig.engine.networks.create("-lan")


@engine_test
async def test_a_driver_of_users_networks_may_have_none_of_its_own(rig: Rig) -> None:
    """One that refuses it is no failure: there is no such network, nor may there be."""
    network = FakeNetwork(rig.world)
    made = network.create_network

    def refuse(spec: NetworkSpec) -> NetworkSpec:
        if spec.id == "lan":
            raise UnsupportedOperation("only users make networks", hint="network create")
        return made(spec)

    network.create_network = refuse  # type: ignore[assignment, method-assign]
    store = rig.engine.networks.networks
    cast("dict[str, NetworkDriver]", rig.engine.drivers.networks)["lan"] = network
    store.open(Patience(30.0))
    assert store.failures == {}
    assert store.get("lan") is None
    office = await rig.engine.networks.create("office", driver="lan")
    store.open(Patience(30.0))
    assert store.get("office") == office
    with pytest.raises(Forbidden, match="cannot have the name of its driver, lan"):
        await rig.engine.networks.create("lan", driver="lan")


@engine_test
async def test_a_networks_name_may_have_blanks_inside(rig: Rig) -> None:
    """Docker takes them, and docker-py's suite has them."""
    await rig.engine.networks.create("my lan")
    assert rig.engine.networks.get("my lan").name == "my lan"
    with pytest.raises(InvalidRequest, match="invalid network name"):
        await rig.engine.networks.create("my lan ")


@engine_test
async def test_connecting_a_running_container(rig: Rig) -> None:
    """It gets an endpoint at once, and loses it again."""
    networks, containers = rig.engine.networks, rig.engine.containers
    lan = await networks.create("lan")
    container = await rig.run("web")
    await networks.connect("lan", "web", EndpointOptions(address="172.19.0.9"))
    assert containers.get("web").endpoints["lan"].address == "172.19.0.9"
    assert f"endpoint:lan:{container.id}" in rig.world.held
    assert [item.name for item in networks.containers_of(lan)] == ["web"]
    file = rig.folder / "containers" / container.id / "hosts"
    assert "172.19.0.9" in file.read_text()
    with pytest.raises(Forbidden, match="already exists in network lan"):
        await networks.connect("lan", "web", EndpointOptions())
    await networks.disconnect("lan", "web")
    assert list(containers.get("web").networks) == ["bridge"]
    assert f"endpoint:lan:{container.id}" not in rig.world.held
    assert "172.19.0.9" not in file.read_text()
    with pytest.raises(Forbidden, match="is not connected to network lan"):
        await networks.disconnect("lan", "web")
    with pytest.raises(Forbidden, match="is not connected to network lan"):
        await networks.disconnect("lan", "web", force=True)


@engine_test
async def test_ports_move_with_the_way_out(rig: Rig) -> None:
    """To a network that leads out now, and on from one that was left; none is held twice."""
    networks, containers = rig.engine.networks, rig.engine.containers
    for name in ("lan", "aaa"):
        await networks.create(name)
    host = HostOptions(network_mode="lan", ports=(PortRequest(80, host_ports=(40000, 40000)),))
    await rig.run("web", host=host)
    port = PortBinding(80, "tcp", "0.0.0.0", 40000)

    def published() -> dict[str, tuple[PortBinding, ...]]:
        found = {name: one.ports for name, one in containers.get("web").endpoints.items()}
        [stored] = containers.store.containers()
        assert found == {name: one.ports for name, one in stored.endpoints.items()}
        assert stored.state.reserved == containers.get("web").state.reserved
        return found

    await networks.connect("aaa", "web", EndpointOptions())
    assert published() == {"lan": (), "aaa": (port,)}
    with pytest.MonkeyPatch.context() as patch:
        # The fake container's network namespace is the test's own.
        patch.setattr("pannier.engine.wiring.move_default_route", lambda *_: None)
        await networks.disconnect("aaa", "web")
    assert published() == {"lan": (port,)}
    await networks.disconnect("lan", "web")
    assert published() == {}
    assert containers.get("web").state.reserved == (port,)
    await networks.connect("aaa", "web", EndpointOptions())
    assert published() == {"aaa": (port,)}
    assert rig.bridge.asked[-1].held == (port,)
    await containers.stop("web")
    assert containers.get("web").state.reserved == ()


@engine_test
async def test_a_disconnect_that_fails_changes_nothing(rig: Rig) -> None:
    """In memory and in the database the container is in the network still; both try again."""
    networks, containers = rig.engine.networks, rig.engine.containers
    await networks.create("lan")
    await rig.run("web")
    await networks.connect("lan", "web", EndpointOptions())
    with pytest.MonkeyPatch.context() as patch:

        def fail(*_: object) -> None:
            [recorded] = containers.store.containers()
            assert "lan" not in recorded.networks, "the record comes first"
            raise DriverError("the link does not go")

        patch.setattr(FakeNetwork, "detach", fail)
        with pytest.raises(DriverError, match="the link does not go"):
            await networks.disconnect("lan", "web")
    [stored] = containers.store.containers()
    assert "lan" in stored.networks
    assert stored.endpoints["lan"] == containers.get("web").endpoints["lan"]
    await networks.disconnect("lan", "web")
    [stored] = containers.store.containers()
    assert list(stored.networks) == list(containers.get("web").networks) == ["bridge"]


@engine_test
async def test_what_fails_behind_a_disconnect_does_not_undo_it(rig: Rig) -> None:
    """The container has left, in memory as in the database, and the error is told."""
    networks, containers = rig.engine.networks, rig.engine.containers
    await networks.create("lan")
    await rig.run("web")
    await networks.connect("lan", "web", EndpointOptions())

    def fail(*_: object) -> None:
        raise DriverError("the file is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wiring, "rewrite_hosts", fail)
        with pytest.raises(DriverError, match="the file is full"):
            await networks.disconnect("lan", "web")
    [stored] = containers.store.containers()
    assert list(stored.networks) == list(containers.get("web").networks) == ["bridge"]
    assert stored.state.rewiring, "the next engine is to look at it"


def _reservations() -> int:
    """Return how many descriptors like those of the fake network are open: of devices."""
    return sum(one.is_char_device() for one in Path("/proc/self/fd").iterdir())


@engine_test
async def test_a_connection_that_fails_late_is_taken_back(rig: Rig) -> None:
    """Where route and files were changed already they are as before, and the record says so."""
    networks, containers = rig.engine.networks, rig.engine.containers
    await networks.create("alpha")  # which leads out, being the first by name
    container = await rig.run("web", host=HostOptions(ports=(PortRequest(80),)))
    assert container.endpoints["bridge"].ports
    descriptors = _reservations()
    file = rig.folder / "containers" / container.id / "hosts"
    before = file.read_text()
    rewrite = Wiring.rewrite_hosts
    moved: list[str] = []

    def fail(self: Wiring, container: Container, links: Iterable[Link]) -> None:
        rewrite(self, container, links)
        if "alpha" in container.networks:
            assert "172.19.0.9" in file.read_text()
            raise DriverError("the file is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wiring, "rewrite_hosts", fail)
        patch.setattr(Wiring, "lead_out", lambda _, container: moved.extend(container.networks))
        with pytest.raises(DriverError, match="the file is full"):
            await networks.connect("alpha", "web", EndpointOptions(address="172.19.0.9"))
    assert moved == ["bridge"]
    assert file.read_text() == before
    assert [one.ports for one in rig.bridge.asked[-2:]] == [(), (PortRequest(80),)]
    assert _reservations() == descriptors, "what was to be kept is closed"
    [stored] = containers.store.containers()
    assert stored == containers.get("web") == container


@engine_test
async def test_an_ended_link_is_not_in_the_way_of_a_connection(rig: Rig) -> None:
    """The container runs already: its file names what runs of what it is linked to."""
    networks = rig.engine.networks
    await networks.create("lan")
    database = await rig.run("db")
    web = await rig.run("web", host=HostOptions(links=("db:data",)))
    file = rig.folder / "containers" / web.id / "hosts"
    assert "data" in file.read_text()
    await rig.ended(database)
    await networks.connect("lan", "web", EndpointOptions())
    assert "data" not in file.read_text()
    await networks.disconnect("lan", "web")


@engine_test
async def test_a_connection_that_fails_changes_nothing(rig: Rig) -> None:
    """The container stays in the networks that it was in."""
    await rig.engine.networks.create("lan")
    await rig.run("web")
    rig.world.count, rig.world.fail_at, rig.world.fail_halfway = 0, 0, True
    with pytest.raises(DriverError):
        await rig.engine.networks.connect("lan", "web", EndpointOptions())
    assert list(rig.engine.containers.get("web").networks) == ["bridge"]
    assert not any(name.startswith("endpoint:lan") for name in rig.world.held)


@engine_test
async def test_connecting_a_stopped_container_waits_for_its_start(rig: Rig) -> None:
    """Its networks are joined when it starts."""
    await rig.engine.networks.create("lan")
    await rig.create("web")
    await rig.engine.networks.connect("lan", "web", EndpointOptions())
    assert rig.engine.containers.get("web").endpoints == {}
    await rig.engine.containers.start("web")
    assert list(rig.engine.containers.get("web").endpoints) == ["bridge", "lan"]


@engine_test
async def test_options_of_an_endpoint(rig: Rig) -> None:
    """Docker's name for the interface is passed on; what is not offered is refused."""
    await rig.engine.networks.create("lan")
    await rig.run("web")
    named = EndpointOptions(driver_options={"com.docker.network.endpoint.ifname": "lan0"})
    await rig.engine.networks.connect("lan", "web", named)
    assert rig.bridge.asked[-1].interface == "lan0"
    await rig.engine.networks.create("far")
    tuned = EndpointOptions(driver_options={"com.docker.network.endpoint.sysctls": "a=1"})
    with pytest.raises(UnsupportedOperation, match=r"endpoint\.sysctls is not offered"):
        await rig.engine.networks.connect("far", "web", tuned)


@engine_test
async def test_networks_that_allow_no_changes(rig: Rig) -> None:
    """A container on the host's network, or another's, cannot be connected."""
    await rig.engine.networks.create("lan")
    await rig.create("web", host=HostOptions(network_mode="host"))
    with pytest.raises(InvalidRequest, match="container cannot be disconnected from host network"):
        await rig.engine.networks.connect("lan", "web", EndpointOptions())
    donor = await rig.run("donor")
    await rig.create("guest", host=HostOptions(network_mode=f"container:{donor.id}"))
    with pytest.raises(InvalidRequest, match="sharing network namespace"):
        await rig.engine.networks.connect("lan", "guest", EndpointOptions())


@engine_test
async def test_prune(rig: Rig) -> None:
    """Networks that no container, running or not, is in."""
    for name in ("used", "spare", "kept"):
        await rig.engine.networks.create(name, labels={"keep": ""} if name == "kept" else {})
    await rig.create("web", host=HostOptions(network_mode="used"))
    result = await rig.engine.networks.prune({"label!": ("keep",)})
    assert result.deleted == ("spare",)


@engine_test
async def test_listing_by_type_and_name(rig: Rig) -> None:
    """There are two types; a name is a pattern, as with Docker."""
    await rig.engine.networks.create("lan")
    listed = rig.engine.networks.list({"type": ("custom",)})
    assert [network.name for network in listed] == ["lan"]
    assert "lan" not in {one.name for one in rig.engine.networks.list({"type": ("builtin",)})}
    (id,) = [network.id for network in listed]
    for name, pattern in (
        *(("name", one) for one in ("^la", "an$", "l.n", "lan")),
        *(("id", one) for one in (id, id[:8], f"^{id[:8]}.*$")),
    ):
        listed = rig.engine.networks.list({name: (pattern,)})
        assert [network.name for network in listed] == ["lan"]
    assert rig.engine.networks.list({"name": ("[",)}) == []
    assert not rig.engine.networks.list({"name": ("^(a+)+$", "^(l+a*n*)+!$")})
    with pytest.raises(InvalidRequest, match="invalid filter: 'type'='other'"):
        rig.engine.networks.list({"type": ("other",)})


@engine_test
async def test_links(rig: Rig) -> None:
    """A link names a running container in /etc/hosts, and its variables tell of it."""
    config = ContainerConfig(env=("WHO=me", "HOME=/x"), exposed_ports=("53/udp", "80/tcp"))
    db = await rig.run("db", config=config)
    web = await rig.run("web", host=HostOptions(links=("db:the-store",)))
    file = rig.folder / "containers" / web.id / "hosts"
    told = [one for one in rig.runtime.requests[web.id].spec["process"]["env"] if "STORE" in one]
    assert told == [
        "THE_STORE_NAME=/web/the-store",
        "THE_STORE_PORT=tcp://172.18.0.2:80",
        "THE_STORE_PORT_80_TCP=tcp://172.18.0.2:80",
        "THE_STORE_PORT_80_TCP_ADDR=172.18.0.2",
        "THE_STORE_PORT_80_TCP_PORT=80",
        "THE_STORE_PORT_80_TCP_PROTO=tcp",
        "THE_STORE_PORT_53_UDP=udp://172.18.0.2:53",
        "THE_STORE_PORT_53_UDP_ADDR=172.18.0.2",
        "THE_STORE_PORT_53_UDP_PORT=53",
        "THE_STORE_PORT_53_UDP_PROTO=udp",
        "THE_STORE_ENV_WHO=me",
        "THE_STORE_ENV_IMAGE=yes",
    ]
    assert f"172.18.0.2\tthe-store {db.id[:12]} db\n" in file.read_text()
    await rig.engine.containers.stop("db")
    await rig.engine.containers.stop("web")
    with pytest.raises(Conflict, match="Cannot link to a non running container: /db AS /web/the"):
        await rig.engine.containers.start("web")
    await rig.engine.containers.remove("db")
    with pytest.raises(NotFound, match="could not get container for db: No such container: db"):
        await rig.engine.containers.start("web")


@engine_test
async def test_a_link_names_the_other_container_too(rig: Rig) -> None:
    """Owner and alias, as Docker shows it; not once either has gone, nor on a network of a user."""
    containers = rig.engine.containers
    db = await rig.run("db")
    web = await rig.run("web", host=HostOptions(links=("db:store", db.id)))
    assert containers.links_of(web) == ("/db:/web/store", "/db:/web/db")
    assert containers.linked_names() == {db.id: ("/web/store", "/web/db")}
    await containers.rename("web", "site")
    assert containers.links_of(containers.get("site")) == ("/db:/site/store", "/db:/site/db")
    await containers.remove("db", force=True)
    assert containers.links_of(containers.get("site")) == ()
    assert containers.linked_names() == {}
    await rig.engine.networks.create("lan")
    apart = await rig.create("apart", host=HostOptions(network_mode="lan", links=("site",)))
    assert containers.links_of(apart) == ()


@engine_test
async def test_a_removed_link_is_gone_and_the_containers_are_not(rig: Rig) -> None:
    """It is named by its container and its alias."""
    await rig.run("db")
    await rig.run("web", host=HostOptions(links=("db:store", "db:other", "db")))
    await rig.engine.containers.remove_link("/web/store")
    assert rig.engine.containers.get("web").host.links == ("db:other", "db")
    await rig.engine.containers.remove_link("web/db")
    assert rig.engine.containers.get("web").host.links == ("db:other",)
    with pytest.raises(NotFound, match="No such link: /web/store"):
        await rig.engine.containers.remove_link("web/store")
    with pytest.raises(InvalidRequest, match="cannot remove the default link name"):
        await rig.engine.containers.remove_link("web")


@engine_test
async def test_a_container_has_the_files_of_the_one_it_joins(rig: Rig) -> None:
    """Name and addresses belong to the network namespace."""
    donor = await rig.run("donor", config=ContainerConfig(hostname="box"))
    guest = await rig.run("guest", host=HostOptions(network_mode="container:donor"))
    request = rig.runtime.requests[guest.id]
    assert request.spec["hostname"] == "box"
    sources = [item.get("source", "") for item in request.spec["mounts"]]
    assert f"{rig.folder}/containers/{donor.id}/hosts" in sources
    names = {item["type"]: item.get("path") for item in request.spec["linux"]["namespaces"]}
    assert names["network"] == f"/proc/{donor.state.pid}/ns/net"


def test_the_hosts_file() -> None:
    """Extra hosts, links, and the container's own addresses, in that order."""
    endpoint = Endpoint("n", address="10.0.0.2", gateway="10.0.0.1", address6="fd00::2")
    text = hosts(
        "127.0.0.1\tlocalhost",
        ("a:1.2.3.4", "gw:host-gateway", "six=[fd00::9]", "v6:fd00::8"),
        (Link("10.0.0.3", ("db",)), Link("", ("gone",))),
        (endpoint,),
        "box.lan box",
    )
    assert text.splitlines() == [
        "127.0.0.1\tlocalhost",
        "1.2.3.4\ta",
        "10.0.0.1\tgw",
        "fd00::9\tsix",
        "fd00::8\tv6",
        "10.0.0.3\tdb",
        "10.0.0.2\tbox.lan box",
        "fd00::2\tbox.lan box",
    ]


@engine_test
async def test_the_host_has_a_name_wherever_a_container_is(rig: Rig) -> None:
    """By its address on the default network, where the container has no gateway."""
    container = await rig.run(
        "web", host=HostOptions(network_mode="host", extra_hosts=("host:host-gateway",))
    )
    file = rig.folder / "containers" / container.id / "hosts"
    [subnet] = rig.engine.networks.get("bridge").subnets
    assert subnet.gateway
    assert f"{subnet.gateway}\thost\n" in file.read_text()


HOST = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a\nsearch lan home\noptions edns0\n"


@pytest.mark.parametrize(
    ("text", "asked", "wanted"),
    [
        (HOST, ((), (), ()), "nameserver 10.0.0.1\nsearch lan home\noptions edns0\n"),
        (HOST, (("1.1.1.1",), (".",), ("ndots:1",)), "nameserver 1.1.1.1\noptions ndots:1\n"),
        ("nameserver ::1\n", ((), (), ()), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("domain x\n", ((), (), ()), "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch x\n"),
        ("", ((), ("s",), ()), "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch s\n"),
    ],
)
def test_the_resolver_configuration(
    text: str, asked: tuple[tuple[str, ...], ...], wanted: str
) -> None:
    """The host's, without servers that cannot be reached from inside; what was asked wins."""
    assert resolv_conf(text, *asked) == wanted


def test_the_host_network_keeps_the_hosts_resolver() -> None:
    """There its loopback is the container's, too."""
    assert "nameserver 127.0.0.53" in resolv_conf(HOST, (), (), (), loopback=True)
