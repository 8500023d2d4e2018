"""Images on the real storage drivers: load, make a container, commit, save, remove."""

from __future__ import annotations

import io
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.database import Database
from pannier.drivers.base import DriverContext
from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer
from pannier.errors import ImageInvalid
from pannier.images.filters import ImageFilters
from pannier.images.images import ImageStore
from pannier.images.importing import CommitRequest, ImportRequest
from pannier.images.reference import parse_reference
from pannier_storage_overlay.driver import OverlayStorage
from pannier_storage_vfs.driver import VfsStorage
from support.images import Entry, busybox_image, busybox_layer, docker_archive, image, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers.storage import StorageDriver

pytestmark = pytest.mark.root


@pytest.fixture(params=[OverlayStorage, VfsStorage], ids=lambda kind: kind.id)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageDriver]:
    """Give each built-in driver in turn."""
    context = DriverContext(tmp_path / "driver", tmp_path / "state")
    context.root.mkdir(mode=0o700)
    context.state.mkdir(mode=0o700)
    driver: StorageDriver = request.param(context, request.param.config_type())
    yield driver
    driver.close()


@pytest.fixture
def real(tmp_path: Path, driver: StorageDriver) -> Iterator[ImageStore]:
    """Give an empty store over it."""
    with closing(Database(tmp_path / "pannier.db")) as database:
        yield ImageStore(tmp_path, database, driver)


def load(store: ImageStore, data: bytes) -> None:
    """Load an archive."""
    list(store.load(io.BytesIO(data)))


def test_an_image_lives_a_whole_life(real: ImageStore, driver: StorageDriver) -> None:
    """Loaded, used, committed, saved, removed, and loaded again from what was saved."""
    load(real, docker_archive([busybox_image()]))
    with real.hold("busybox") as found:
        layer = ContainerLayer("c" * 64, found.top_layer)
        Transaction().run(driver.plan_create_container(layer))
    root = Transaction().run(driver.plan_open_root(layer.key))
    try:
        path = Path(f"/proc/self/fd/{root}")
        assert (path / "bin/sh").readlink() == Path("busybox")
        (path / "etc/motd").write_text("hello")
        (path / "etc/group").unlink()
    finally:
        os.close(root)
    request = CommitRequest(layer.key, found.id, found.config.config, parse_reference("made:1"))
    made = real.commit(request).image
    assert made.size == found.size + len("hello")
    out = io.BytesIO()
    real.save(["made:1", "busybox"], out)

    driver.remove_container(layer.key)
    real.remove("made:1", users=tuple)
    real.remove("busybox", users=tuple)
    assert list(driver.layers()) == []

    load(real, out.getvalue())
    again = io.BytesIO()
    real.save(["made:1", "busybox"], again)
    assert again.getvalue() == out.getvalue()
    view = driver.open_layer(str(real.get("made:1").top_layer))
    try:
        path = Path(f"/proc/self/fd/{view}")
        assert (path / "etc/motd").read_text() == "hello"
        assert not (path / "etc/group").exists()
        assert (path / "etc/passwd").exists()
    finally:
        os.close(view)


def test_a_layer_outlives_its_image_under_a_container(
    real: ImageStore, driver: StorageDriver
) -> None:
    """Forced away from under a container, the layers go with the next prune after it."""
    load(real, docker_archive([busybox_image()]))
    found = real.get("busybox")
    layer = ContainerLayer("c" * 64, found.top_layer)
    Transaction().run(driver.plan_create_container(layer))
    real.remove("busybox", users=tuple, force=True)
    os.close(Transaction().run(driver.plan_open_root(layer.key)))
    driver.remove_container(layer.key)
    real.prune(ImageFilters(), users=tuple)
    assert list(driver.layers()) == []


@pytest.mark.parametrize(
    "entry",
    [
        Entry("../escaped", b"x"),
        Entry("a/../../escaped", b"x"),
        Entry("link", kind="hardlink", target="../../../etc/passwd"),
    ],
    ids=lambda entry: entry.name,
)
def test_a_hostile_layer_leaves_nothing(
    real: ImageStore, driver: StorageDriver, tmp_path: Path, entry: Entry
) -> None:
    """Refused by the unpacker; no layer below it, no blob, no image stays."""
    hostile = image([busybox_layer(), tar([entry])], tags=["hostile:1"])
    with pytest.raises(ImageInvalid):
        load(real, docker_archive([hostile]))
    assert list(driver.layers()) == []
    assert list(real.content.digests()) == []
    # os.walk, since the driver may still be removing what it threw away.
    found = [name for _, folders, files in os.walk(tmp_path) for name in (*folders, *files)]
    assert "escaped" not in found


def test_a_root_filesystem_is_imported(real: ImageStore, driver: StorageDriver) -> None:
    """As one layer that the driver has."""
    found = real.import_image(io.BytesIO(busybox_layer()), ImportRequest()).image
    assert driver.has_layer(str(found.top_layer))
    assert found.size > 1_000_000
