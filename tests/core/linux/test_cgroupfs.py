"""Control group filesystems are found, read, and emptied."""

from __future__ import annotations

import secrets
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pannier.linux import cgroupfs
from support.engine_rig import descriptors_open

if TYPE_CHECKING:
    from pathlib import Path

MOUNTINFO = """\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
35 31 0:32 /docker/abc /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,pids
36 31 0:29 / /somewhere/else rw,relatime - cgroup cgroup rw,cpu,cpuacct
37 31 0:33 /../.. /outside rw,relatime - cgroup cgroup rw,freezer
38 31 0:34 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_hierarchies_are_found_once(tmp_path: Path) -> None:
    """Co-mounted controllers, names, escapes and read-only mounts are understood."""
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    found = [
        (str(mount.path), mount.version, mount.controllers, mount.root, mount.read_only)
        for mount in cgroupfs.cgroup_mounts(tmp_path / "mountinfo")
    ]
    assert found == [
        ("/sys/fs/cgroup/cpu,cpuacct", 1, ("cpu", "cpuacct"), "/", False),
        ("/sys/fs/cgroup/memory", 1, ("memory",), "/", True),
        ("/sys/fs/cgroup/systemd", 1, ("name=systemd",), "/", False),
        ("/sys/fs/cgroup/with space", 1, ("pids",), "/docker/abc", False),
        ("/sys/fs/cgroup/unified", 2, (), "/", False),
    ]


def test_keyed_files_are_read() -> None:
    """Both of the kernel's formats; what is no number is left out of the flat one."""
    assert cgroupfs.flat_keyed("cache 4096\nname text\nlimit -1") == {"cache": 4096, "limit": -1}
    assert cgroupfs.nested_keyed("some avg10=0.50 total=12\n\nfull avg10=0.00 total=3") == {
        "some": {"avg10": "0.50", "total": "12"},
        "full": {"avg10": "0.00", "total": "3"},
    }


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """A refused write says which file refused."""
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="full") as caught:
        cgroupfs.write_file(tmp_path / "full", "1")
    assert caught.value.filename == str(tmp_path / "full")


def test_processes_are_collected_from_below(tmp_path: Path) -> None:
    """A group's processes are its own and those of the groups in it; a missing group has none."""
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "a" / "cgroup.procs").write_text("7\n3\n0\n")
    (below / "cgroup.procs").write_text("5\n")
    assert cgroupfs.processes(tmp_path) == [3, 5, 7]
    assert cgroupfs.processes(tmp_path / "gone") == []


def test_groups_are_removed_deepest_first(tmp_path: Path) -> None:
    """A tree of groups goes; a second removal is no error; one that stays in use is."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    cgroupfs.remove_group(tmp_path / "a", 1.0)
    assert not (tmp_path / "a").exists()
    cgroupfs.remove_group(tmp_path / "a", 1.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "busy").touch()
    with pytest.raises(OSError, match="not empty"):
        cgroupfs.remove_group(tmp_path / "a", 0.01)


def test_a_batch_of_processes_is_killed_and_waited_for(tmp_path: Path) -> None:
    """What the group lists is killed; what has ended already is passed over."""
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    (tmp_path / "cgroup.procs").write_text(f"{living.pid}\n{ended.pid}\n")
    cgroupfs.kill_processes(tmp_path, 10.0)
    assert living.wait(0.1) == -signal.SIGKILL
    assert living.stdin is not None
    living.stdin.close()


def test_an_event_of_a_group_that_has_gone(tmp_path: Path) -> None:
    """A missing group is not populated, and not frozen."""
    assert cgroupfs.wait_for_event(tmp_path, "populated", 0, 0.01)
    assert not cgroupfs.wait_for_event(tmp_path, "frozen", 1, 0.01)


@pytest.mark.root
@pytest.mark.skipif(
    not any(mount.version == 2 for mount in cgroupfs.cgroup_mounts()),
    reason="needs a cgroup v2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup/unified",
)
def test_a_counter_is_watched() -> None:
    """The watch polls readable after a change, until it is read; it counts upwards only."""
    root = next(mount.path for mount in cgroupfs.cgroup_mounts() if mount.version == 2)
    group = root / f"pannier-test-{secrets.token_hex(4)}"
    assert cgroupfs.make_group(group)
    try:
        watch = cgroupfs.CounterWatch(group / "cgroup.events", "populated")
        poller = select.poll()
        poller.register(watch.fileno(), select.POLLIN)
        assert (poller.poll(0), watch.read()) == ([], 0)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
            cgroupfs.write_file(group / "cgroup.procs", str(process.pid))
            assert poller.poll(10_000)
            assert watch.read() == 1
            assert (poller.poll(0), watch.read()) == ([], 0)
        assert poller.poll(10_000)
        assert watch.read() == 0
        cgroupfs.remove_group(group, 5.0)
        assert watch.read() == 0
        watch.close()
        watch.close()
    finally:
        cgroupfs.remove_group(group, 5.0)


def test_a_file_that_tells_nothing_is_not_watched(tmp_path: Path) -> None:
    """Nothing stays open then."""
    (tmp_path / "memory.events").write_text("oom_kill 1")
    before = descriptors_open()
    with pytest.raises(PermissionError):
        cgroupfs.CounterWatch(tmp_path / "memory.events", "oom_kill")
    assert descriptors_open() == before
