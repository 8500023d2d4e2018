"""Two storage drivers at once: each container's files are with the driver that it was made with."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon


def layers(daemon: Daemon, driver: str) -> list[Path]:
    """Return the folders of a driver's image layers."""
    return list((daemon.folder / "root" / "storage" / driver / "layers").iterdir())


def test_a_container_with_another_driver_lives_as_any_other(daemon: Daemon) -> None:
    """Run, write, stop, start, diff, copy, commit: the same answers beside a default one."""
    cli = daemon.cli
    script = "cat /kept 2>/dev/null; echo written >> /kept; exec sleep 1000"
    for name, flags in (("default", ()), ("other", ("--storage-driver", "vfs"))):
        cli("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", script)
        cli("exec", name, "sh", "-c", "until [ -s /kept ]; do sleep 0.05; done")
        cli("stop", "-t", "0", name)
        cli("start", name)
        cli("exec", name, "sh", "-c", 'until [ "$(wc -l < /kept)" = 2 ]; do sleep 0.05; done')
        assert cli("diff", name).stdout.splitlines() == ["A /kept"]
        cli("commit", name, f"{name}:1")
        assert cli("run", "--rm", f"{name}:1", "cat", "/kept").stdout == "written\nwritten\n"
    drivers = [daemon.inspect(name)["GraphDriver"]["Name"] for name in ("default", "other")]
    assert drivers == ["overlay", "vfs"]
    assert daemon.inspect("other")["HostConfig"]["StorageOpt"] == {"driver": "vfs"}


def test_it_is_found_again_and_leaves_nothing(own_daemon: Daemon) -> None:
    """A killed daemon's successor has it still; with image and container all its files go."""
    cli = own_daemon.cli
    assert layers(own_daemon, "vfs") == []
    cli("run", "-d", "--name", "other", "--storage-driver=vfs", "busybox", "sleep", "1000")
    cli("exec", "other", "sh", "-c", "echo kept > /kept")
    own_daemon.kill()
    own_daemon.start()
    assert cli("exec", "other", "cat", "/kept").stdout == "kept\n"
    assert layers(own_daemon, "vfs") != []
    cli("rm", "-f", "other")
    cli("rmi", "busybox")
    assert layers(own_daemon, "vfs") == []
    assert layers(own_daemon, "overlay") == []


def test_an_unknown_driver_is_refused(daemon: Daemon) -> None:
    """The error names those that there are."""
    refused = daemon.cli("create", "--storage-driver=nosuch", "busybox", check=False)
    assert refused.returncode != 0
    assert "unknown or invalid storage driver name: nosuch" in refused.stderr
    assert "vfs" in refused.stderr
    assert daemon.cli("ps", "-aq").stdout == ""


def test_a_container_whose_driver_has_gone_is_still_shown(own_daemon: Daemon) -> None:
    """It can be removed, but not started, with the reason; the others go on."""
    cli = own_daemon.cli
    cli("create", "--name", "other", "--storage-driver=vfs", "busybox", "true")
    own_daemon.kill()
    with sqlite3.connect(own_daemon.folder / "root" / "pannier.db") as database:
        database.execute(
            "UPDATE containers SET definition = replace(definition, ?, ?)", ('"vfs"', '"gone"')
        )
    database.close()
    own_daemon.start()
    assert own_daemon.inspect("other")["GraphDriver"] == {"Name": "gone", "Data": {}}
    refused = cli("start", "other", check=False)
    assert refused.returncode != 0
    assert "the storage driver 'gone'" in refused.stderr
    assert cli("run", "--rm", "busybox", "echo", "on").stdout == "on\n"
    cli("rm", "other")
