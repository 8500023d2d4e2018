# ruff: noqa: ASYNC240 - looking at a file for a moment holds nothing up in a test
"""Volumes: made, found again, and removed, whatever came in between."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from unittest import mock

import pytest

from pannier.database import Database
from pannier.drivers.base import IdMap, IdMapping
from pannier.engine import lifecycle
from pannier.engine.model import HostOptions, MountKind, MountSpec, Status
from pannier.engine.store import Store
from pannier.engine.volumes import VolumeStore
from pannier.errors import Conflict, InvalidRequest, NotFound
from support.engine_rig import Rig, engine_test


def _store(folder: Path, idmap: IdMap | None = None) -> VolumeStore:
    return VolumeStore(folder / "volumes", Store(Database(folder / "db")), idmap)


@engine_test
async def test_a_volume_is_made_once(rig: Rig) -> None:
    """A second creation gives the same one; with other options it is refused."""
    volumes = rig.engine.volumes
    box = await volumes.create("box", labels={"a": "1"})
    assert await volumes.create("box") == box
    assert rig.actions("volume") == ["create"]
    path = Path(box.path)
    assert path.is_dir()
    assert path == rig.folder / "volumes/box/_data"
    # Others may pass through, but not look around.
    assert stat.S_IMODE((rig.folder / "volumes").stat().st_mode) == 0o701
    assert [item.name for item in volumes.list({"label": ("a=1",), "name": ("bo",)})] == ["box"]
    for pattern, found in (("^b.x$", ["box"]), ("^o", []), ("[", [])):
        assert [item.name for item in volumes.list({"name": (pattern,)})] == found
    assert volumes.list({"driver": ("nfs",)}) == []
    with pytest.raises(InvalidRequest, match="invalid filter 'colour'"):
        volumes.list({"colour": ("red",)})
    with pytest.raises(NotFound, match='plugin "nfs" not found'):
        await volumes.create("other", driver="nfs")
    (path / "file").write_text("12345")
    assert (await volumes.usage("box")).size == 5
    await volumes.remove("box")
    assert not (rig.folder / "volumes/box").exists()
    with pytest.raises(NotFound, match="get box: no such volume"):
        await volumes.remove("box")
    await volumes.remove("box", force=True)


@engine_test
async def test_a_volume_is_told_to_be_mounted_and_not_any_more(rig: Rig) -> None:
    """Around its container's run, whoever else has it."""
    mount = MountSpec(MountKind.VOLUME, "/data", "box", read_only=True)
    made = await rig.run("web", host=HostOptions(mounts=(mount,)))
    await rig.engine.containers.stop("web")
    assert rig.actions("volume") == ["create", "mount", "unmount"]
    history = rig.engine.events._history
    mounted, unmounted = (event for event in history if event.action.endswith("mount"))
    assert mounted.actor == unmounted.actor == "box"
    assert mounted.attributes == {
        "container": made.id,
        "driver": "local",
        "destination": "/data",
        "propagation": "",
        "read/write": "false",
    }
    assert unmounted.attributes == {"container": made.id, "driver": "local"}


@engine_test
async def test_a_folder_of_the_host_as_a_volume(rig: Rig) -> None:
    """``type=none,o=bind``: its files stay when the volume goes."""
    folder = rig.folder / "mine"
    folder.mkdir()
    (folder / "file").write_text("kept")
    options = {"type": "none", "o": "bind", "device": str(folder)}
    volume = await rig.engine.volumes.create("box", options=options)
    assert volume.path == str(folder)
    with pytest.raises(Conflict, match="exists already, with other options"):
        await rig.engine.volumes.create("box", options={**options, "device": "/"})
    await rig.engine.volumes.remove("box")
    assert (folder / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "1g"}, 'create x1: invalid option: "size"'),
        ({"o": "bind"}, 'create x1: missing required option: "device"'),
        ({"type": "tmpfs"}, 'create x1: missing required option: "device"'),
        ({"device": "tmpfs"}, 'create x1: missing required option: "type"'),
        ({"device": "relative", "o": "bind"}, "device=relative cannot be had with a bind"),
        ({"device": "/x", "o": "bind,size=1m"}, "o=size=1m cannot be had with a bind"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str, tmp_path: Path) -> None:
    """Are named at the creation."""

    @engine_test
    async def check(rig: Rig) -> None:
        with pytest.raises(InvalidRequest, match=message):
            await rig.engine.volumes.create("x1", options=options)

    check(tmp_path)


@engine_test
async def test_prune_all(rig: Rig) -> None:
    """With ``all`` the named ones go, too, unless they are in use."""
    for name in ("one", "two", "three"):
        await rig.engine.volumes.create(name, labels={"keep": ""} if name == "three" else {})
    mounts = (MountSpec(MountKind.VOLUME, "/data", "one"),)
    await rig.create(host=HostOptions(mounts=mounts))
    assert (await rig.engine.volumes.prune({})).deleted == ()
    result = await rig.engine.volumes.prune({"all": ("true",), "label!": ("keep",)})
    assert result.deleted == ("two",)


def test_a_volume_that_is_held_stays(tmp_path: Path) -> None:
    """Between a container's volumes being made and the container being known."""
    store = _store(tmp_path)
    store.ensure("box", hold=True)
    with pytest.raises(Conflict, match="volume is in use"):
        store.remove("box", lambda _: [])
    with pytest.raises(Conflict, match="exists already, with other options"):
        store.ensure("box", options={"type": "tmpfs", "device": "tmpfs"}, hold=True)
    store.release("box")
    store.remove("box", lambda _: [])
    store.remove("box", lambda _: [])


def test_a_volume_that_a_user_asked_for_stays(tmp_path: Path) -> None:
    """It was made for a container, which came to nothing; only such volumes go with it."""
    store = _store(tmp_path)
    for name in ("told", "untold"):
        store.ensure(name, hold=True)
        store.release(name)
    store.ensure("told")
    assert [store.discard(name, lambda _: []) for name in ("told", "untold", "none")] == [
        False,
        True,
        False,
    ]
    assert [volume.name for volume in store.all()] == ["told"]


def test_a_name_whose_files_are_still_being_deleted(tmp_path: Path) -> None:
    """A volume of the same name can be made and removed meanwhile."""
    store = _store(tmp_path)
    with mock.patch.object(VolumeStore, "clear"):
        for _ in range(2):
            volume, _ = store.ensure("box")
            (Path(volume.path) / "file").touch()
            store.remove("box", lambda _: [])
    assert store.all() == _store(tmp_path).all() == []
    assert list((tmp_path / "volumes").iterdir()) == []


def test_what_a_killed_engine_left(tmp_path: Path) -> None:
    """Removals are finished or taken back; data that no row speaks of is never touched."""
    store = _store(tmp_path)
    for name in ("kept", "half", "done"):
        volume, _ = store.ensure(name)
        (Path(volume.path) / "file").write_text(name)
    store.remove("done", lambda _: [])
    folder = tmp_path / "volumes"
    (folder / "half").rename(folder / ".removing-01234567.half")
    (folder / ".removing-01234567.gone/_data").mkdir(parents=True)
    (folder / "fresh/_data").mkdir(parents=True)
    (folder / "stray/_data").mkdir(parents=True)
    (folder / "stray/_data/file").write_text("data")
    again = _store(tmp_path)
    assert [volume.name for volume in again.all()] == ["half", "kept"]
    assert sorted(path.name for path in folder.iterdir()) == ["half", "kept", "stray"]
    assert (folder / "half/_data/file").read_text() == "half"


@pytest.mark.root
def test_volumes_of_a_user_namespace(tmp_path: Path) -> None:
    """They belong to the root user inside."""
    maps = (IdMapping(0, 100000, 65536),)
    volume, _ = _store(tmp_path, IdMap(maps, maps)).ensure("box")
    assert Path(volume.path).stat().st_uid == 100000


@engine_test
async def test_a_process_that_survives_its_kill(rig: Rig) -> None:
    """Its whole group is killed then; and if that does not help either, the error says so."""
    lifecycle._KILL_PATIENCE, patience = 0.05, lifecycle._KILL_PATIENCE
    try:
        container = await rig.run("web")
        rig.runtime.kill = lambda *_: None  # type: ignore[method-assign]
        with pytest.raises(Conflict, match="did not receive an exit event"):
            await rig.engine.containers.remove("web", force=True)
        assert rig.world.log == [f"kill group {container.id}"]
        assert rig.status("web") is Status.RUNNING
        removal = asyncio.ensure_future(rig.engine.containers.remove("web", force=True))
        await asyncio.sleep(0.07)
        rig.runtime.end(container.id, 137)
        await removal
    finally:
        lifecycle._KILL_PATIENCE = patience


@engine_test
async def test_two_removals_at_once(rig: Rig) -> None:
    """One removes, the other is told; by force both are content."""
    await rig.create("web")
    results = await asyncio.gather(
        rig.engine.containers.remove("web"),
        rig.engine.containers.remove("web"),
        return_exceptions=True,
    )
    assert sorted(type(item).__name__ for item in results)[1] == "NoneType"
    assert isinstance(next(item for item in results if item), Conflict | NotFound)
    await rig.run("db")
    await asyncio.gather(
        rig.engine.containers.remove("db", force=True),
        rig.engine.containers.remove("db", force=True),
    )
    assert rig.world.held == set()
