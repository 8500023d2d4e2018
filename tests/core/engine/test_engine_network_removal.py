"""Removing a network beside what joins it, or leaves it, at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from pannier.engine.model import EndpointOptions, HostOptions
from pannier.errors import Conflict, DriverError, Forbidden, NotFound
from support.engine_rig import Rig, engine_test, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Held:
    """A call that is held on its worker thread, once it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def pass_by(self) -> None:
        """Hold the caller."""
        self.begun.set()
        assert self.let_go.wait(60)


@contextlib.contextmanager
def holding(patch: pytest.MonkeyPatch, owner: object, name: str) -> Iterator[Held]:
    """Have a method be held before it does its work, and let go at the latest in the end."""
    held = Held()
    does: Callable[..., object] = getattr(owner, name)

    def method(*arguments: object) -> object:
        held.pass_by()
        return does(*arguments)

    with patch.context() as patched:
        patched.setattr(owner, name, method)
        try:
            yield held
        finally:
            held.let_go.set()


@engine_test
async def test_a_network_stays_while_a_container_comes_or_goes(rig: Rig) -> None:
    """Starting, connecting or disconnecting, it has an endpoint there, whatever its record says."""
    networks, containers = rig.engine.networks, rig.engine.containers
    lan = await networks.create("lan")
    starting = await rig.create("starting", host=HostOptions(network_mode="lan"))
    web = await rig.run("web")
    acts: list[tuple[str, str, Callable[[], Coroutine[object, object, None]]]] = [
        ("hold", starting.id, lambda: containers.start("starting")),
        ("hold", web.id, lambda: networks.connect("lan", "web", EndpointOptions())),
        ("drop", web.id, lambda: networks.disconnect("lan", "web")),
        ("drop", starting.id, lambda: networks.disconnect("lan", "starting")),
    ]
    patch = pytest.MonkeyPatch()
    for method, id, act in acts:
        with holding(patch, rig.world, method) as held:
            doing = asyncio.create_task(act())
            await eventually(held.begun.is_set)
            with pytest.raises(Forbidden, match=r"network lan id [0-9a-f]{64} has active"):
                await networks.remove("lan")
            held.let_go.set()
            await doing
        assert networks.get("lan") == lan
        assert (f"endpoint:lan:{id}" in rig.world.held) == (method == "hold")
    await networks.remove("lan")


@engine_test
async def test_a_network_that_is_being_removed_cannot_be_joined(rig: Rig) -> None:
    """Nor removed once more: it is as good as gone. It is there again if that fails."""
    networks, containers = rig.engine.networks, rig.engine.containers
    lan = await networks.create("lan")
    await rig.create("starting", host=HostOptions(network_mode="lan"))
    await rig.run("web")
    await rig.create("created")

    async def refused() -> None:
        acts: list[Callable[[], Coroutine[object, object, None]]] = [
            lambda: containers.start("starting"),
            lambda: networks.connect("lan", "web", EndpointOptions()),
            lambda: networks.connect("lan", "created", EndpointOptions()),
            lambda: networks.remove("lan"),
        ]
        for act in acts:
            with pytest.raises(NotFound, match="network lan not found"):
                await act()

    def fail(_: object) -> None:
        raise DriverError("the link stays")

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(rig.bridge, "remove_network", fail)
        with holding(patch, rig.bridge, "remove_network") as held:
            removing = asyncio.create_task(networks.remove("lan"))
            await eventually(held.begun.is_set)
            await refused()
            with pytest.raises(Conflict, match="network with name lan already exists"):
                await networks.create("lan")
            held.let_go.set()
            with pytest.raises(DriverError, match="the link stays"):
                await removing
    assert networks.get("lan") == lan
    await networks.connect("lan", "web", EndpointOptions())
    await networks.disconnect("lan", "web")
    with holding(patch, rig.bridge, "remove_network") as held:
        removing = asyncio.create_task(networks.remove("lan"))
        await eventually(held.begun.is_set)
        await refused()
        await containers.remove("starting")
        assert (await networks.prune({})).deleted == ()
        held.let_go.set()
        await removing
    with pytest.raises(NotFound, match="network lan not found"):
        networks.get("lan")
    assert not any(name.startswith("endpoint:lan:") for name in rig.world.held)
    assert rig.actions("network").count("destroy") == 1
