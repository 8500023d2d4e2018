"""What a layer hides of those below: whiteouts, opaque folders, files in folders' places."""

from __future__ import annotations

import os
import stat

import pytest

from pannier.errors import Conflict
from pannier.testing.archives import STAMP, entry
from pannier.testing.base import mandatory
from pannier.testing.storage_base import Storage, StorageTests, image
from pannier.testing.trees import names, read

__all__ = ["HidingTests"]


class HidingTests(StorageTests):
    """Layers over layers."""

    @mandatory
    def test_a_layer_lies_over_its_parent(self, storage: Storage) -> None:
        """New files are added, files of one name replaced; the parent stays as it was."""
        base = storage.layer("base", None, entry("kept", b"kept"), entry("replaced", b"old"))
        top = storage.layer("top", base, entry("added", b"added"), entry("replaced", b"new"))
        with storage.opened_layer(top) as root:
            assert names(root) == ["added", "kept", "replaced"]
            assert read(root, "replaced") == b"new"
        with storage.opened_layer(base) as root:
            assert names(root) == ["kept", "replaced"]
            assert read(root, "replaced") == b"old"

    @mandatory
    def test_a_whiteout_hides_a_file(self, storage: Storage) -> None:
        """What .wh.NAME names is gone from the layers below, and from nothing else."""
        base = storage.layer("base", None, entry("f/"), entry("f/a"), entry("f/b"), entry("a"))
        top = storage.layer("top", base, entry("f/.wh.a"))
        with storage.opened_layer(top) as root:
            assert names(root) == ["a", "f"]
            assert names(root, "f") == ["b"]
        with storage.opened_layer(base) as root:
            assert names(root, "f") == ["a", "b"]

    @mandatory
    def test_a_whiteout_hides_a_whole_folder(self, storage: Storage) -> None:
        """Made again in a layer above, the folder is empty."""
        base = storage.layer("base", None, entry("f/"), entry("f/a"))
        gone = storage.layer("gone", base, entry(".wh.f"))
        again = storage.layer("again", gone, entry("f/"), entry("f/b"))
        with storage.opened_layer(gone) as root:
            assert names(root) == []
        with storage.opened_layer(again) as root:
            assert names(root, "f") == ["b"]

    @mandatory
    def test_a_whiteout_of_nothing_is_nothing(self, storage: Storage) -> None:
        """A layer may delete what no layer below has; the mark itself is never seen."""
        base = storage.layer("base", None, entry(".wh.never"), entry("a"))
        top = storage.layer("top", base, entry(".wh.neither"), entry("nowhere/.wh.x"))
        with storage.opened_layer(top) as root:
            assert names(root) == ["a", "nowhere"]
            assert names(root, "nowhere") == []

    @mandatory
    def test_a_whiteout_beside_an_opaque_marker_is_not_seen(self, storage: Storage) -> None:
        """What deletes a file that is hidden already leaves nothing to be listed."""
        base = storage.layer("base", None, entry("f/"), entry("f/a"), entry("g/"), entry("g/a"))
        top = storage.layer(
            "top",
            base,
            entry("f/.wh.a"),
            entry("f/.wh..wh..opq"),
            entry("g/.wh..wh..opq"),
            entry("g/.wh.a"),
        )
        with storage.opened_layer(top) as root:
            assert names(root, "f") == names(root, "g") == []

    @mandatory
    def test_a_whiteout_does_not_hide_its_own_layers_file(self, storage: Storage) -> None:
        """Deleted below and made anew in one layer: the new one is there, in either order."""
        base = storage.layer("base", None, entry("a", b"old"), entry("b", b"old"))
        top = storage.layer(
            "top", base, entry(".wh.a"), entry("a", b"new"), entry("b", b"new"), entry(".wh.b")
        )
        with storage.opened_layer(top) as root:
            assert read(root, "a") == b"new"
            # The specification leaves open what the other order means; old it must not be.
            assert "b" not in names(root) or read(root, "b") == b"new"

    @mandatory
    def test_an_opaque_folder_hides_what_it_had(self, storage: Storage) -> None:
        """.wh..wh..opq hides a folder's content below, wherever it stands in the archive."""
        base = storage.layer(
            "base", None, entry("f/"), entry("f/old"), entry("f/sub/"), entry("f/sub/old")
        )
        first = storage.layer("first", base, entry("f/.wh..wh..opq"), entry("f/new"))
        last = storage.layer(
            "last", base, entry("f/"), entry("f/sub/"), entry("f/new"), entry("f/.wh..wh..opq")
        )
        with storage.opened_layer(first) as root:
            assert names(root, "f") == ["new"]
        with storage.opened_layer(last) as root:
            assert names(root, "f") == ["new", "sub"]
            assert names(root, "f/sub") == []

    @mandatory
    def test_an_opaque_root_hides_everything_below(self, storage: Storage) -> None:
        """The marker at the top of a layer leaves nothing of its parents, also after a re-open."""
        top = image(storage)
        clean = storage.layer("clean", top, entry(".wh..wh..opq"), entry("only"))
        storage.reopen()
        with storage.opened_layer(clean) as root:
            assert names(root) == ["only"]
        with pytest.raises(Conflict):
            storage.driver.remove_layer(top)

    @mandatory
    def test_a_folder_and_a_file_replace_one_another(self, storage: Storage) -> None:
        """A file over a folder hides all of it; a folder over a file is empty but for its own."""
        base = storage.layer("base", None, entry("a/"), entry("a/x"), entry("b", b"file"))
        top = storage.layer("top", base, entry("a", b"file"), entry("b/"), entry("b/y"))
        again = storage.layer("again", top, entry("a/"))
        with storage.opened_layer(top) as root:
            assert read(root, "a") == b"file"
            assert names(root, "b") == ["y"]
        with storage.opened_layer(again) as root:
            assert names(root, "a") == []

    @mandatory
    def test_a_folder_that_the_archive_leaves_out_stays_as_it_was(self, storage: Storage) -> None:
        """A layer with nothing but etc/.wh.group changes neither owner, mode nor time of etc."""
        with storage.opened_layer(image(storage)) as root:
            etc = os.stat("etc", dir_fd=root)
        assert stat.S_IMODE(etc.st_mode) == 0o750
        assert (etc.st_uid, etc.st_gid, etc.st_mtime) == (3, 4, STAMP)

    @mandatory
    def test_a_folder_entry_changes_the_folder_below(self, storage: Storage) -> None:
        """Mode and owner are the upper layer's, the content that of both."""
        base = storage.layer("base", None, entry("f/", mode=0o700), entry("f/a"))
        top = storage.layer("top", base, entry("f/", mode=0o755, uid=9), entry("f/b"))
        with storage.opened_layer(top) as root:
            assert names(root, "f") == ["a", "b"]
            status = os.stat("f", dir_fd=root)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 9)

    @mandatory
    def test_a_link_of_a_layer_below_is_followed_for_parents(self, storage: Storage) -> None:
        """An entry lib/new lands in usr/lib where a layer below has lib as a link to it."""
        top = storage.layer("more", image(storage), entry("lib/new", b"new"))
        with storage.opened_layer(top) as root:
            assert stat.S_ISLNK(os.stat("lib", dir_fd=root, follow_symlinks=False).st_mode)
            assert names(root, "usr/lib") == ["new", "so"]
