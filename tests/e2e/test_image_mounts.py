"""Images mounted into containers of other images: ``--mount type=image``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from support.images import Entry, docker_archive, image, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

import pytest

MOUNT = "type=image,source=tools,target=/tools"

LOWER = [
    Entry("etc", kind="dir", mode=0o755),
    Entry("etc/gone", b"gone\n"),
    Entry("etc/tool", b"old\n"),
    Entry("link", kind="symlink", target="/etc"),
    Entry("out", kind="symlink", target="../../../.."),
]
UPPER = [Entry("etc/.wh.gone"), Entry("etc/tool", b"new\n", mode=0o640, uid=7, gid=8)]


@pytest.fixture
def tools(storage_daemon: Daemon) -> Iterator[Daemon]:
    """Give a daemon on each storage driver, with an image of two layers that has no program."""
    made = image([tar(LOWER), tar(UPPER)], tags=["tools:latest"])
    storage_daemon.cli("load", input=docker_archive([made]))
    yield storage_daemon
    storage_daemon.cli("rm", "-f", *storage_daemon.cli("ps", "-aq").stdout.split(), check=False)


def test_the_files_of_an_image_in_a_container(tools: Daemon) -> None:
    """All of them, or a part, as the image has them; nobody can write there."""
    look = "stat -c '%a %u %g %n' /tools/etc/*; cat /tools/etc/tool; touch /tools/x"
    for client in tools.clients:
        done = client("run", "--rm", "--mount", MOUNT, "busybox", "sh", "-c", look, check=False)
        assert done.stdout == "640 7 8 /tools/etc/tool\nnew\n"
        assert "Read-only file system" in done.stderr
        for part in ("etc", "link", "out/etc"):
            words = ("--mount", f"{MOUNT},image-subpath={part}", "busybox", "ls", "/tools")
            assert client("run", "--rm", *words).stdout == "tool\n", part
        words = ("--mount", f"{MOUNT}/file,image-subpath=etc/tool", "busybox", "cat", "/tools/file")
        assert client("run", "--rm", *words).stdout == "new\n"


def test_what_cannot_be_mounted(tools: Daemon) -> None:
    """No such image, or no such path in it: nothing of the container is left."""
    for mount, said, status in (
        ("type=image,source=none,target=/x", "No such image: none:latest", 125),
        ("type=image,target=/x", "field Source must not be empty", 125),
        (f"{MOUNT},image-subpath=none", "of the image tools: no such file or directory", 127),
        (f"{MOUNT},image-subpath=../x", "must be a relative path within the image: ../x", 125),
        (f"{MOUNT},volume-nocopy", "cannot mix 'volume-*' options with mount type 'image'", 125),
    ):
        for client in tools.clients:
            done = client("run", "--rm", "--mount", mount, "busybox", "true", check=False)
            assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert tools.cli("ps", "-aq").stdout == ""


def test_an_image_that_is_mounted_stays(tools: Daemon) -> None:
    """Whoever has it, stopped or not, finds it at the next start, whatever daemon's it is."""
    words = ("--mount", MOUNT, "busybox", "cat", "/tools/etc/tool")
    box = tools.cli("create", "--name", "box", *words)
    short = box.stdout[:12]
    id = tools.cli("images", "-q", "--no-trunc", "tools").stdout.strip()
    done = tools.cli("rmi", "tools", check=False)
    assert f"container {short} is using its referenced image" in done.stderr
    tools.cli("rmi", "-f", "tools")
    done = tools.cli("rmi", "-f", id, check=False)
    assert f"(cannot be forced) - image is mounted in container {short}" in done.stderr
    tools.cli("image", "prune", "-f")
    tools.kill()
    tools.start()
    assert tools.cli("start", "-a", "box").stdout == "new\n"
    # A stopped one's files are seen as a running one's.
    assert b"new\n" in os.fsencode(tools.cli("cp", "box:/tools/etc/tool", "-").stdout)
    done = tools.cli("run", "--rm", "--volumes-from", "box", *words[2:])
    assert done.stdout == "new\n"
    [shown] = tools.inspect("box")["Mounts"]
    assert (shown["Type"], shown["Destination"], shown["RW"]) == ("image", "/tools", False)
    tools.cli("rm", "box")
    assert id in tools.cli("image", "prune", "-f").stdout
