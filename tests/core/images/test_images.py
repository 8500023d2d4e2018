"""The image store: looking up, naming, listing, removing, measuring."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pannier.errors import Conflict, InvalidRequest, NotFound
from pannier.images.filters import ImageFilters
from pannier.images.images import ImageStore
from pannier.images.importing import CommitRequest
from pannier.images.model import DeletedImage, ImageUser, NewImage, UntaggedImage
from pannier.images.oci import Manifest, parse_document
from pannier.images.reference import parse_reference
from pannier.images.timestamps import parse_time
from support.images import docker_archive, image, layer
from support.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pannier.database import Database
    from pannier.images.model import Image
    from support.images import BuiltImage


def load(store: ImageStore, *images: BuiltImage) -> None:
    """Load images."""
    list(store.load(io.BytesIO(docker_archive(images))))


def small(*tags: str, text: str = "hello", **fields: object) -> BuiltImage:
    """Return an image of two layers, the lower one always the same."""
    parts = [layer({"base": "12345"}), layer({"a": text})]
    return image(parts, tags=tags, **fields)  # type: ignore[arg-type]  # named fields of image()


def child(store: ImageStore, storage: MemoryStorage, of: str, *, name: str | None = None) -> Image:
    """Commit a container of an image."""
    base = store.get(of)
    storage.change("key", base.top_layer, {"committed": of + str(name)})
    reference = None if name is None else parse_reference(name).with_default_tag()
    request = CommitRequest("key", base.id, base.config.config, name=reference)
    added = store.commit(request).image
    storage.remove_container("key")
    return added


def users(*containers: ImageUser) -> Sequence[ImageUser]:
    """Return what the engine would answer."""
    return containers


def lines(removals: Sequence[UntaggedImage | DeletedImage]) -> list[str]:
    """Return what ``docker rmi`` would print, without the layers."""
    found = []
    for item in removals:
        if isinstance(item, UntaggedImage):
            found.append(f"Untagged: {item.reference}")
        elif item.is_image:
            found.append(f"Deleted: {item.id}")
    return found


def is_empty(store: ImageStore, storage: MemoryStorage) -> bool:
    """Whether no blob and no layer is left."""
    return not list(store.content.digests()) and not storage.streams


# Looking up.


def test_an_image_is_found_by_every_name_it_has(store: ImageStore) -> None:
    """By tag, familiar or whole, by id, by the beginning of an id."""
    built = small("busybox:latest", "localhost:5000/team/app:1")
    load(store, built)
    digits = built.id.removeprefix("sha256:")
    for name in (
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        "library/busybox:latest",
        "localhost:5000/team/app:1",
        built.id,
        digits,
        digits[:12],
        digits[:4],
        built.id[:20],
    ):
        assert store.get(name).id == built.id
    assert store.get("busybox").tags == ("busybox:latest", "localhost:5000/team/app:1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("busybox", "No such image: busybox:latest"),
        ("localhost:5000/a/b:1", "No such image: localhost:5000/a/b:1"),
        ("0" * 64, f"No such image: sha256:{'0' * 64}"),
        ("sha256:" + "0" * 64, f"No such image: sha256:{'0' * 64}"),
        ("busybox@sha256:" + "0" * 64, f"No such image: busybox@sha256:{'0' * 64}"),
    ],
)
def test_what_is_not_there_is_named_as_docker_names_it(
    store: ImageStore, name: str, message: str
) -> None:
    """With the tag that was looked for."""
    with pytest.raises(NotFound) as caught:
        store.get(name)
    assert caught.value.message == message
    assert caught.value.hint
    assert store.find(name) is None


def test_a_malformed_name_is_not_merely_absent(store: ImageStore) -> None:
    """The user is told what is wrong with it."""
    with pytest.raises(InvalidRequest, match="invalid reference format"):
        store.get("a b")


def test_an_ambiguous_id_is_not_guessed(store: ImageStore) -> None:
    """Two images whose ids begin alike are told apart by more digits."""
    seen: dict[str, BuiltImage] = {}
    number = 0
    while True:
        built = small(text=str(number))
        prefix = built.id[7:9]
        if prefix in seen:
            break
        seen[prefix] = built
        number += 1
    load(store, built, seen[prefix])
    with pytest.raises(NotFound, match=f"No such image: {prefix}:latest") as caught:
        store.get(prefix)
    assert "more digits" in str(caught.value.hint)
    assert store.get(built.id[7:29]).id == built.id


def test_a_tag_comes_before_the_beginning_of_an_id(store: ImageStore) -> None:
    """A tag may look like the beginning of another image's id."""
    other = small()
    named = small(f"{other.id[7:12]}:latest", text="named")
    load(store, other, named)
    assert store.get(other.id[7:12]).id == named.id


# Naming.


def test_a_tag_leads_to_the_image_and_may_move(store: ImageStore) -> None:
    """Tagging twice is no error; a name belongs to one image."""
    one, two = small("one:1"), small("two:1", text="two")
    load(store, one, two)
    assert str(store.tag("one:1", "name")) == "docker.io/library/name:latest"
    store.tag("one:1", "name")
    assert store.get("name").id == one.id
    store.tag(two.id, "name:latest")
    assert store.get("name").id == two.id
    assert store.get(one.id).tags == ("one:1",)
    assert store.get("two:1").tagged is not None


def test_tagging_is_refused_in_dockers_words(store: ImageStore) -> None:
    """For what is not there, and for names that are none."""
    load(store, small("x:1"))
    with pytest.raises(NotFound, match="No such image: y:latest"):
        store.tag("y", "z")
    with pytest.raises(InvalidRequest, match="must be lowercase"):
        store.tag("x:1", "Z")
    with pytest.raises(InvalidRequest, match="refusing to create a tag with a digest reference"):
        store.tag("x:1", "z@sha256:" + "0" * 64)


# Listing.


def test_the_newest_image_is_listed_first(store: ImageStore) -> None:
    """By the time in its configuration."""
    old = small("old:1", text="old", created="2001-01-01T00:00:00Z")
    new = small("new:1", text="new", created="2024-01-01T00:00:00.5+02:00")
    load(store, old, new)
    assert [found.tags for found in store.list()] == [("new:1",), ("old:1",)]


def test_filters_pick_images(store: ImageStore) -> None:
    """Each of docker's filters, and all together."""
    images = [
        small(
            "a:1",
            "b/c:2",
            text="1",
            config={"Labels": {"k": "v", "e": ""}},
            created="2001-01-01T00:00:00Z",
        ),
        small("a:2", text="2", config={"Labels": {"k": "w"}}, created="2002-01-01T00:00:00Z"),
        small(text="3", created="2003-01-01T00:00:00Z"),
    ]
    load(store, *images)

    def numbers(filters: ImageFilters) -> list[int]:
        found = [item.id for item in store.list(filters)]
        return sorted(1 + [built.id for built in images].index(item) for item in found)

    assert numbers(ImageFilters()) == [1, 2, 3]
    assert numbers(ImageFilters(dangling=True)) == [3]
    assert numbers(ImageFilters(dangling=False)) == [1, 2]
    assert numbers(ImageFilters(labels=("k",))) == [1, 2]
    assert numbers(ImageFilters(labels=("k=v",))) == [1]
    assert numbers(ImageFilters(labels=("k=v", "e"))) == [1]
    assert numbers(ImageFilters(labels=("k=w", "e"))) == []
    assert numbers(ImageFilters(before="a:2")) == [1]
    assert numbers(ImageFilters(since="a:2")) == [3]
    assert numbers(ImageFilters(since="a:1", before=images[2].id)) == [2]
    assert numbers(ImageFilters(until=parse_time("2002-06-01T00:00:00Z"))) == [1, 2]
    assert numbers(ImageFilters(references=("a",))) == [1, 2]
    assert numbers(ImageFilters(references=("a:1",))) == [1]
    assert numbers(ImageFilters(references=("*",))) == [1, 2]
    assert numbers(ImageFilters(references=("b/*",))) == [1]
    assert numbers(ImageFilters(references=("*:2",))) == [2]
    assert numbers(ImageFilters(references=("x", "b/c"))) == [1]
    with pytest.raises(NotFound, match="No such image: x:latest"):
        store.list(ImageFilters(before="x"))


def test_a_reference_filter_hides_the_other_names(store: ImageStore) -> None:
    """Of an image with several names those that match are shown."""
    load(store, small("a:1", "b:1"))
    [found] = store.list(ImageFilters(references=("b",)))
    assert found.tags == ("b:1",)


def test_parents_without_a_name_are_not_listed(store: ImageStore, storage: MemoryStorage) -> None:
    """Unless all are asked for."""
    load(store, small("x:1"))
    top = child(store, storage, "x:1", name="child:1")
    store.remove("x:1", users=users)
    assert [found.id for found in store.list()] == [top.id]
    assert len(store.list(all=True)) == 2
    assert store.list(ImageFilters(dangling=True)) == ()


# Removing.


def test_the_last_name_takes_the_image_with_it(store: ImageStore, storage: MemoryStorage) -> None:
    """A name goes alone while there are others."""
    built = small("x:1", "y:1")
    load(store, built)
    layers = [part.chain_id for part in store.get("x:1").layers]
    assert lines(store.remove("x:1", users=users)) == ["Untagged: x:1"]
    removals = store.remove("y:1", users=users)
    assert lines(removals) == ["Untagged: y:1", f"Deleted: {built.id}"]
    assert [item.id for item in removals[2:]] == [layers[1], layers[0]]  # type: ignore[union-attr]  # layers, by the line above
    assert is_empty(store, storage)
    with pytest.raises(NotFound):
        store.get(built.id)


def test_an_id_takes_one_name_with_it_but_not_several(store: ImageStore) -> None:
    """Several names need force."""
    built = small("x:1", "x:2")
    load(store, built)
    short = built.id[7:19]
    with pytest.raises(Conflict) as caught:
        store.remove(short, users=users)
    assert caught.value.message == (
        f"conflict: unable to delete {short} (must be forced) - "
        "image is referenced in multiple repositories"
    )
    assert lines(store.remove(short, users=users, force=True)) == [
        "Untagged: x:1",
        "Untagged: x:2",
        f"Deleted: {built.id}",
    ]
    load(store, small("x:1"))
    assert lines(store.remove(built.id, users=users)) == ["Untagged: x:1", f"Deleted: {built.id}"]


def test_layers_of_another_image_stay(store: ImageStore, storage: MemoryStorage) -> None:
    """Only what nothing else uses is deleted."""
    one, two = small("one:1"), small("two:1", text="two")
    load(store, one, two)
    removals = store.remove("one:1", users=users)
    assert [item for item in removals if isinstance(item, DeletedImage) and not item.is_image] == [
        DeletedImage(image_layer, is_image=False)
        for image_layer in [chain for chain in storage.made if chain not in storage.streams]
    ]
    assert len(storage.streams) == 2
    with io.BytesIO() as out:
        store.save(["two:1"], out)


def test_a_name_that_a_container_uses_must_be_forced(store: ImageStore) -> None:
    """Forced, the name goes and the image stays with its container, untagged."""
    built = small("x:1")
    load(store, built)
    container = "c" * 64
    for running in (True, False):
        user = ImageUser(container, built.id, running)
        with pytest.raises(Conflict) as caught:
            store.remove("x:1", users=lambda user=user: [user])  # type: ignore[misc]  # binds now
        assert caught.value.message == (
            'conflict: unable to remove repository reference "x:1" (must force) - container '
            f"{container[:12]} is using its referenced image {built.id[7:19]}"
        )
    user = ImageUser(container, built.id, running=True)
    assert lines(store.remove("x:1", users=lambda: [user], force=True)) == ["Untagged: x:1"]
    assert store.get(built.id).tags == ()


def test_an_id_that_a_container_uses(store: ImageStore) -> None:
    """A stopped container yields to force, a running one does not; nothing changes otherwise."""
    built = small("x:1")
    load(store, built)
    container, short = "c" * 64, built.id[7:19]
    stopped, running = (ImageUser(container, built.id, state) for state in (False, True))
    with pytest.raises(Conflict) as caught:
        store.remove(short, users=lambda: [stopped])
    assert caught.value.message == (
        f"conflict: unable to delete {short} (must be forced) - "
        f"image is being used by stopped container {container[:12]}"
    )
    with pytest.raises(Conflict) as caught:
        store.remove(short, users=lambda: [running], force=True)
    assert caught.value.message == (
        f"conflict: unable to delete {short} (cannot be forced) - "
        f"image is being used by running container {container[:12]}"
    )
    assert store.get(short).tags == ("x:1",)
    assert f"Deleted: {built.id}" in lines(store.remove(short, users=lambda: [stopped], force=True))


def test_a_parent_stays_as_long_as_its_child(store: ImageStore, storage: MemoryStorage) -> None:
    """Its name goes; the child's removal takes the untagged parent with it."""
    built = small("x:1")
    load(store, built)
    top = child(store, storage, "x:1", name="child:1")
    with pytest.raises(Conflict, match=r"cannot be forced.* image has dependent child images"):
        store.remove(built.id, users=users, force=True)
    assert lines(store.remove("x:1", users=users)) == ["Untagged: x:1"]
    assert lines(store.remove("child:1", users=users)) == [
        "Untagged: child:1",
        f"Deleted: {top.id}",
        f"Deleted: {built.id}",
    ]
    assert is_empty(store, storage)


def test_parents_stay_when_not_to_be_pruned(store: ImageStore, storage: MemoryStorage) -> None:
    """As ``docker rmi --no-prune``; a tagged parent stays in any case."""
    built = small("x:1")
    load(store, built)
    child(store, storage, "x:1", name="child:1")
    assert len(lines(store.remove("child:1", users=users))) == 2
    child(store, storage, "x:1", name="child:1")
    store.remove("x:1", users=users)
    assert len(lines(store.remove("child:1", users=users, prune=False))) == 2
    assert store.get(built.id).id == built.id


def test_a_layer_stays_while_a_container_stands_on_it(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """A forced removal forgets the image; the next prune after the container collects it."""
    built = small("x:1")
    load(store, built)
    storage.change("key", store.get("x:1").top_layer, {})
    removals = store.remove(built.id, users=users, force=True)
    assert lines(removals) == ["Untagged: x:1", f"Deleted: {built.id}"]
    assert len(removals) == 2, "no layer is reported as deleted"
    assert len(storage.streams) == 2
    storage.remove_container("key")
    store.prune(ImageFilters(), users=users)
    assert is_empty(store, storage)


# Pruning.


def test_prune_takes_untagged_images_that_nothing_uses(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """And says how much it reclaimed."""
    tagged, dangling, used = small("x:1"), small(text="dangling"), small(text="used")
    load(store, tagged, dangling, used)
    user = ImageUser("c" * 64, used.id, running=False)
    report = store.prune(ImageFilters(dangling=True), users=lambda: [user])
    assert lines(report.removals) == [f"Deleted: {dangling.id}"]
    assert report.reclaimed == len("dangling")
    assert len(store.list()) == 2
    report = store.prune(ImageFilters(dangling=False), users=users)
    assert sorted(lines(report.removals)) == sorted(
        ["Untagged: x:1", f"Deleted: {tagged.id}", f"Deleted: {used.id}"]
    )
    assert report.reclaimed == len("12345" + "hello" + "used")
    assert is_empty(store, storage)


def test_prune_has_filters(store: ImageStore) -> None:
    """By label, without a label, and by age."""
    old = small(text="1", created="2001-01-01T00:00:00Z", config={"Labels": {"keep": "no"}})
    new = small(text="2", created="2020-01-01T00:00:00Z", config={"Labels": {"keep": "yes"}})
    load(store, old, new)

    def pruned(**fields: object) -> list[str]:
        filters = ImageFilters(dangling=True, **fields)  # type: ignore[arg-type]  # its fields
        return lines(store.prune(filters, users=users).removals)

    assert pruned(until=parse_time("2000-01-01T00:00:00Z")) == []
    assert pruned(labels=("keep=maybe",)) == []
    assert pruned(not_labels=("keep",)) == []
    assert pruned(not_labels=("keep=yes",)) == [f"Deleted: {old.id}"]
    assert pruned(until=parse_time("2020-06-01T00:00:00Z")) == [f"Deleted: {new.id}"]


# History and sizes.


def test_history_names_the_images_that_are_here(store: ImageStore, storage: MemoryStorage) -> None:
    """Steps made elsewhere are missing; a step without a layer has no size."""
    built = small("x:1")
    load(store, built)
    storage.change("key", store.get("x:1").top_layer, {"new": "123"})
    request = CommitRequest(
        "key", built.id, store.get("x:1").config.config, message="why", created_by="sh"
    )
    top = store.commit(request).image
    items = store.history(top.id)
    assert [item.id for item in items] == [top.id, built.id, "<missing>"]
    assert [item.size for item in items] == [3, len("hello"), len("12345")]
    assert [item.tags for item in items] == [(), ("x:1",), ()]
    assert (items[0].comment, items[0].created_by) == ("why", "sh")
    assert items[1].created == parse_time("2024-05-18T10:20:30.123456789Z")


def test_sizes_count_shared_layers_once(store: ImageStore) -> None:
    """Each image's own, what it shares, and all together."""
    load(store, small("one:1", text="1"), small("two:1", text="22"))
    images = store.list()
    sizes = {found.tags[0]: size for found, size in zip(images, store.sizes(images), strict=True)}
    assert (sizes["one:1"].size, sizes["one:1"].shared, sizes["one:1"].unique) == (6, 5, 1)
    assert (sizes["two:1"].size, sizes["two:1"].shared, sizes["two:1"].unique) == (7, 5, 2)
    usage = store.disk_usage()
    assert usage.layers == 5 + 1 + 2
    assert usage.content == sum(
        store.content.path(digest).stat().st_size for digest in store.content.digests()
    )
    assert len(usage.images) == 2


# Living through things.


def test_a_reopened_store_finds_everything(
    store: ImageStore, storage: MemoryStorage, database: Database, tmp_path: Path
) -> None:
    """Images, names, layers; and nothing is unpacked again."""
    built = small("x:1")
    load(store, built)
    made = list(storage.made)
    again = ImageStore(tmp_path, database, storage)
    assert again.get("x:1") == store.get("x:1")
    load(again, built)
    assert storage.made == made


def test_what_a_killed_process_left_is_cleaned_at_open(
    store: ImageStore, storage: MemoryStorage, database: Database, tmp_path: Path
) -> None:
    """Staged files, blobs of no image, layers that were never verified, with layers on them."""
    load(store, small("x:1"))
    blobs = set(store.content.digests())
    layers = set(storage.streams)
    (store.content.ingest / "half").write_bytes(b"half")
    store.content.path("sha256:" + "0" * 64).write_bytes(b"nobody's")
    storage.create_layer("sha256:" + "1" * 64, None, io.BytesIO(layer({})))
    storage.create_layer("sha256:" + "2" * 64, "sha256:" + "1" * 64, io.BytesIO(layer({})))
    again = ImageStore(tmp_path, database, storage)
    assert set(again.content.digests()) == blobs
    assert set(storage.streams) == layers
    assert list(again.content.ingest.iterdir()) == []


def test_another_storage_driver_gets_the_layers_when_they_are_needed(
    store: ImageStore, database: Database, tmp_path: Path
) -> None:
    """Images survive a change of driver, since their blobs are here."""
    load(store, small("x:1"))
    other = MemoryStorage()
    again = ImageStore(tmp_path, database, other)
    assert other.streams == {}
    with again.hold("x:1") as found:
        assert other.has_layer(str(found.top_layer))
    assert len(other.made) == 2


def test_one_container_may_ask_for_another_driver(database: Database, tmp_path: Path) -> None:
    """Its image's layers are made there too, and go from both with the image."""
    first, second = MemoryStorage(), MemoryStorage()
    second.id = "second"  # type: ignore[misc] # two of one class
    store = ImageStore(tmp_path, database, first, others={"memory": first, "second": second})
    load(store, small("x:1"))
    assert second.streams == {}
    with store.hold("x:1", "second") as found:
        assert second.has_layer(str(found.top_layer))
    assert set(second.streams) == set(first.streams) != set()
    store.remove("x:1", users=users)
    assert first.streams == second.streams == {}


def test_a_held_image_keeps_its_layers(store: ImageStore, storage: MemoryStorage) -> None:
    """Between the look-up and the container's layer a removal cannot take them."""
    load(store, small("x:1"))
    with store.hold("x:1") as found:
        store.remove("x:1", users=users)
        store.prune(ImageFilters(), users=users)
        assert storage.has_layer(str(found.top_layer))
    store.prune(ImageFilters(), users=users)
    assert is_empty(store, storage)


def test_two_loads_at_once_unpack_once(store: ImageStore, storage: MemoryStorage) -> None:
    """The second waits for the first's layers; both succeed."""
    inside, go = threading.Event(), threading.Event()

    def before_create(chain_id: str) -> None:
        del chain_id
        inside.set()
        assert go.wait(10)

    storage.before_create = before_create
    data = docker_archive([small("x:1")])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: list(store.load(io.BytesIO(data))))
        assert inside.wait(10)
        second = pool.submit(lambda: list(store.load(io.BytesIO(data))))
        go.set()
        assert first.result(10)[-1] == second.result(10)[-1]
    assert len(storage.made) == 2
    assert store.get("x:1").tags == ("x:1",)


def test_a_prune_leaves_alone_what_is_being_loaded(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """Blobs and layers that no image points to yet are leased."""
    events = store.load(io.BytesIO(docker_archive([small("x:1")])))
    for _ in range(3):
        next(events)
    assert len(storage.streams) == 1
    store.prune(ImageFilters(dangling=False), users=users)
    list(events)
    with io.BytesIO() as out:
        store.save(["x:1"], out)
    assert len(storage.streams) == 2


def test_many_threads_load_tag_and_remove(store: ImageStore, storage: MemoryStorage) -> None:
    """Whatever the order, nothing is lost while it is named and nothing is left after."""
    images = [small(f"x:{number}", text=str(number)) for number in range(4)]

    def work(number: int) -> None:
        built = images[number % 4]
        for _ in range(5):
            load(store, built)
            store.tag(built.id, f"mine:{number}")
            with store.hold(f"mine:{number}") as found:
                assert storage.has_layer(str(found.top_layer))
            try:
                store.remove(f"mine:{number}", users=users)
                store.remove(f"x:{number % 4}", users=users)
            except NotFound:
                pass
            store.prune(ImageFilters(dangling=True), users=users)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result(60)
    assert store.list(all=True) == ()
    assert is_empty(store, storage)


# Names by digest, as a pull leaves them.


def pulled(store: ImageStore, built: BuiltImage, repository: str) -> str:
    """Load an image and name it by its manifest's digest in a repository; return that name."""
    load(store, built)
    found = store.get(built.id)
    name = f"{repository}@{found.manifest.digest}"
    manifest = parse_document(store.content.read(found.manifest.digest))
    assert isinstance(manifest, Manifest)
    with store.workbench.work() as lease:
        store.workbench.add([NewImage(found.config, manifest, (parse_reference(name),))], lease)
    return name


def test_an_image_is_found_by_its_repositorys_digest(store: ImageStore) -> None:
    """With or without a tag beside it, which does not count."""
    built = small("x:1")
    name = pulled(store, built, "x")
    assert store.get(name).id == built.id
    assert store.get(name.replace("@", ":other@")).id == built.id
    assert store.get("x:1").digests == (name,)
    assert [str(found) for found, _ in store.names_of_repository(parse_reference("x"))] == [
        "docker.io/library/x:1",
        f"docker.io/library/{name}",
    ]


def test_the_last_tag_of_a_repository_takes_its_digests_with_it(
    store: ImageStore, storage: MemoryStorage
) -> None:
    """They would keep an image that nobody sees."""
    built = small("x:1", "x:2")
    name = pulled(store, built, "x")
    assert lines(store.remove("x:1", users=users)) == ["Untagged: x:1"]
    assert lines(store.remove("x:2", users=users)) == [
        "Untagged: x:2",
        f"Untagged: {name}",
        f"Deleted: {built.id}",
    ]
    assert is_empty(store, storage)


def test_an_image_is_removed_by_its_digest(store: ImageStore) -> None:
    """Which leaves its tags; without any it goes, by id too."""
    built = small("x:1")
    name = pulled(store, built, "x")
    assert lines(store.remove(name, users=users)) == [f"Untagged: {name}"]
    assert store.get("x:1").digests == ()
    name = pulled(store, small(text="bare"), "y")
    image_id = store.get(name).id
    assert lines(store.remove(image_id[7:20], users=users)) == [
        f"Untagged: {name}",
        f"Deleted: {image_id}",
    ]


def test_prune_takes_images_that_have_only_a_digest(store: ImageStore) -> None:
    """No tag leads to them."""
    name = pulled(store, small(), "y")
    [found] = store.list(ImageFilters(dangling=True))
    assert found.digests == (name,)
    report = store.prune(ImageFilters(dangling=True), users=users)
    assert lines(report.removals) == [f"Untagged: {name}", f"Deleted: {found.id}"]
