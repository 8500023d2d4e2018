"""What a container sees of the host, and what it may do."""

from __future__ import annotations

import os
import shutil
from errno import EACCES, ENOENT, ENOTDIR
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.runtime import StdioSpec
from pannier.errors import DriverError, PannierError, StartFailed
from support.native import BUSYBOX, IDMAP, make_spec

if TYPE_CHECKING:
    from support.native import Box

pytestmark = pytest.mark.root


def status_of(text: str) -> dict[str, str]:
    """Return the fields of a /proc/PID/status."""
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


def test_only_its_own_processes_are_seen(box: Box) -> None:
    """Pid 1 is the container's program."""
    assert box.sh("ls /proc | grep '^[0-9]' | sort -n | head -1; echo $$").out.split() == ["1", "1"]


def test_only_its_own_mounts_are_seen(box: Box) -> None:
    """Nothing of the host's, and nothing of what the way there needed."""
    out = box.sh("cat /proc/self/mountinfo").out
    places = [line.split()[4] for line in out.splitlines()]
    assert places[:7] == ["/", "/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm"]
    assert set(places[7:]) <= {
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/acpi",
        "/sys/firmware",
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    }


def test_names_and_ipc_and_links_are_its_own(box: Box) -> None:
    """A hostname of its own, no message queues, and the loopback link alone."""
    before = os.uname().nodename
    result = box.sh("hostname; hostname; ls /sys/class/net; wc -l </proc/sysvipc/shm")
    assert result.out.split() == ["box", "box", "lo", "1"]
    assert os.uname().nodename == before


def test_the_control_group_is_its_own_root(box: Box) -> None:
    """In its cgroup namespace the paths begin where it is."""
    out = box.sh("cat /proc/self/cgroup").out
    assert {line.rpartition(":")[2] for line in out.splitlines()} == {"/"}


def test_no_descriptor_leaks(box: Box) -> None:
    """Three streams, and the one that ls itself opens."""
    assert box.run(make_spec("ls", "/proc/self/fd")).out.split() == ["0", "1", "2", "3"]


def test_signals_are_as_a_fresh_process_has_them(box: Box) -> None:
    """None is blocked or ignored."""
    status = status_of(box.run(make_spec("cat", "/proc/self/status")).out)
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 0


def test_capabilities_are_those_asked_for(box: Box) -> None:
    """The bounding, permitted and effective sets; nothing inheritable."""
    status = status_of(box.run(make_spec("cat", "/proc/self/status")).out)
    assert status["CapBnd"] == status["CapEff"] == status["CapPrm"] == "00000000a80425fb"
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0


def test_ambient_capabilities_survive_for_a_user(box: Box) -> None:
    """A user with an ambient capability has it after execve."""
    caps = ["CAP_NET_BIND_SERVICE"]
    sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), caps)
    spec = make_spec("cat", "/proc/self/status", user={"uid": 1000, "gid": 1000}, capabilities=sets)
    status = status_of(box.run(spec).out)
    assert status["CapEff"] == status["CapAmb"] == "0000000000000400"


def test_user_groups_umask_directory(box: Box) -> None:
    """All as asked for; a missing directory is made; HOME comes from the root's passwd."""
    spec = make_spec("sh", "-c", "id -u; id -g; id -G; umask; pwd; echo $HOME")
    spec["process"]["user"] = {"uid": 1000, "gid": 100, "additionalGids": [7, 8], "umask": 0o77}
    spec["process"]["cwd"] = "/new/place"
    assert box.run(spec).out.split() == [
        "1000",
        "100",
        "100",
        "7",
        "8",
        "0077",
        "/new/place",
        "/home/user",
    ]


def test_a_user_can_reopen_its_streams(box: Box) -> None:
    """/dev/stdout is the user's to open, with pipes and with a terminal."""
    spec = make_spec("sh", "-c", "echo hi >/dev/stdout", user={"uid": 1000, "gid": 1000})
    assert box.run(spec).out == "hi\n"
    assert box.run(spec, stdio=StdioSpec(terminal=True)).out == "hi\r\n"


def test_no_new_privileges_and_seccomp(box: Box) -> None:
    """Both are in force; the filter's refusal is seen."""
    spec = make_spec("sh", "-c", "cat /proc/self/status; mkdir /tmp/x || echo refused")
    spec["process"]["noNewPrivileges"] = True
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    for privileged in (False, True):
        spec["process"]["noNewPrivileges"] = not privileged
        result = box.run(spec)
        status = status_of(result.out)
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == ("0" if privileged else "1")
        assert "refused" in result.out


def test_seccomp_holds_for_added_processes(box: Box) -> None:
    """The container's filter is theirs too."""
    spec = make_spec("sleep", "100")
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    box.create("a", spec)
    box.driver.start("a")
    assert box.exec("a", "mkdir", "/tmp/x").status == 1


def test_masks_hide(box: Box) -> None:
    """A masked file is /dev/null, a masked folder an empty one that cannot be written."""
    result = box.sh(
        "wc -c </proc/keys; ls -A /sys/firmware; touch /sys/firmware/x 2>/dev/null || echo ro; "
        "test -c /proc/keys && echo device"
    )
    assert result.out.split() == ["0", "ro", "device"]


def test_readonly_paths_refuse(box: Box) -> None:
    """Kernel parameters cannot be written."""
    assert box.sh("echo 1 >/proc/sys/vm/swappiness").status != 0
    assert box.sh("echo h >/proc/sysrq-trigger").status != 0


def test_a_mask_is_never_a_file_of_the_images(box: Box) -> None:
    """Where the image's /dev/null is no device, another null device covers the path."""
    spec = make_spec("sh", "-c", "cat /proc/keys; test -c /proc/keys && echo device")
    spec["mounts"] = [spec["mounts"][0]]
    box_dev = box.rootfs / "dev"
    (box_dev / "null").unlink(missing_ok=True)
    spec["mounts"].append(
        {"destination": "/dev", "type": "bind", "source": str(box_dev), "options": ["bind"]}
    )
    (box_dev / "null").write_text("secret")
    spec["linux"]["maskedPaths"] = ["/proc/keys"]
    assert box.run(spec).out == "device\n"


def test_readonly_root(box: Box) -> None:
    """The root refuses to be written; a tmpfs in it does not."""
    spec = make_spec("sh", "-c", "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo rw")
    spec["root"]["readonly"] = True
    assert box.run(spec).out.split() == ["ro", "rw"]


def test_devices(box: Box) -> None:
    """The six of every container and those asked for, with their mode and owner."""
    spec = make_spec("sh", "-c", "ls -ln /dev | grep -v pts; echo x >/dev/full || echo failed")
    spec["linux"]["devices"] = [
        {
            "path": "/dev/odd",
            "type": "c",
            "major": 1,
            "minor": 5,
            "fileMode": 0o640,
            "uid": 7,
            "gid": 8,
        },
        {"path": "/dev/deep/er", "type": "p"},
    ]
    out = box.run(spec).out
    lines = {line.split()[-1]: line for line in out.splitlines() if line}
    assert lines["odd"].startswith("crw-r-----    1 7        8           1,   5")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        assert lines[name].startswith("crw-rw-rw-")
    assert "deep" in lines
    assert "failed" in lines


def test_sysctls(box: Box) -> None:
    """Parameters of its namespaces are set, whatever is read-only afterwards."""
    spec = make_spec("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni")
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}
    host = Path("/proc/sys/kernel/shmmni").read_text()
    assert box.run(spec).out.split() == ["1", "77"]
    assert Path("/proc/sys/kernel/shmmni").read_text() == host


def test_rlimits_and_oom_score(box: Box) -> None:
    """A soft limit, and how readily the kernel kills it."""
    limit = {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}
    spec = make_spec(
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj",
        rlimits=[limit],
        oomScoreAdj=321,
    )
    assert box.run(spec).out.split() == ["123", "456", "321"]


@pytest.mark.parametrize("most", [3, 8])
def test_a_limit_of_few_descriptors(box: Box, tmp_path: Path, most: int) -> None:
    """Holds for the programs, and not for what is opened and looked up before they run."""
    (tmp_path / "passwd").write_text("root:x:0:0::/home/of/root:/bin/sh\n")
    limit = {"type": "RLIMIT_NOFILE", "soft": most, "hard": most}
    show = "ulimit -n; ulimit -Hn; echo $HOME"
    spec = make_spec("sh", "-c", show, rlimits=[limit])
    spec["mounts"] += [
        {
            "destination": "/etc/passwd",
            "type": "bind",
            "source": str(tmp_path / "passwd"),
            "options": ["bind"],
        }
    ]
    shown = f"{most}\n{most}\n/home/of/root\n"
    assert box.run(spec).out == shown
    spec["process"]["args"] = ["sleep", "100"]
    box.create("a", spec)
    box.start("a")
    done = box.exec("a", "sh", "-c", show, rlimits=[limit])
    assert (done.status, done.out) == (0, shown)


def test_binds(box: Box, tmp_path: Path) -> None:
    """A folder and a file; missing places are made; options hold, recursively where said."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("content")
    spec = make_spec(
        "sh", "-c", "cat /a/b/file /f; touch /a/b/new 2>/dev/null || echo ro; touch /rw/new"
    )
    spec["mounts"] += [
        {"destination": "/a/b", "type": "bind", "source": str(source), "options": ["rbind", "rro"]},
        {
            "destination": "/f",
            "type": "bind",
            "source": str(source / "file"),
            "options": ["bind", "ro"],
        },
        {"destination": "/rw", "type": "bind", "source": str(source), "options": ["rbind"]},
    ]
    result = box.run(spec)
    assert result.out == "contentcontentro\n"
    assert (source / "new").exists()


@pytest.mark.parametrize("link", ["/etc", "../../../../etc", "/proc/1/root/etc"])
def test_symlinked_destinations_stay_inside(box: Box, tmp_path: Path, link: str) -> None:
    """A link in the image leads a mount nowhere but into the image."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "mark").touch()
    (box.rootfs / "link").symlink_to(link)
    spec = make_spec("ls", "/etc/deep")
    spec["mounts"].append(
        {"destination": "/link/deep", "type": "bind", "source": str(source), "options": ["rbind"]}
    )
    try:
        out = box.run(spec).out
    except PannierError:
        assert link.startswith("/proc")  # a magic link is refused outright
        out = "mark\n"
        box.driver.delete("box")
    assert out == "mark\n"
    assert not Path("/etc/deep").exists()


def test_a_dangling_link_is_followed_inside(box: Box, tmp_path: Path) -> None:
    """What it names is made in the root."""
    (tmp_path / "file").write_text("content")
    (box.rootfs / "etc/resolv.conf").symlink_to("../run/deep/resolv.conf")
    spec = make_spec("cat", "/run/deep/resolv.conf")
    spec["mounts"].append(
        {
            "destination": "/etc/resolv.conf",
            "type": "bind",
            "source": str(tmp_path / "file"),
            "options": ["bind"],
        }
    )
    assert box.run(spec).out == "content"
    assert not Path("/run/deep").exists()


def test_proc_is_not_mounted_through_a_link(box: Box) -> None:
    """An image with a link at /proc is refused: what is written there could go astray."""
    shutil.rmtree(box.rootfs / "proc")
    (box.rootfs / "proc").symlink_to("tmp")
    with pytest.raises(DriverError, match="mount /proc"):
        box.create("a", make_spec("true"))


def test_a_working_directory_behind_a_hosts_descriptor_is_refused(box: Box) -> None:
    """/proc/self/fd/N as a directory does not lead out of the root."""
    for number in range(3, 12):
        spec = make_spec("sh", "-c", "ls /; cat /etc/hostname; ls ../../../../..")
        spec["process"]["cwd"] = f"/proc/self/fd/{number}"
        try:
            result = box.run(spec, id=f"c{number}")
        except PannierError:
            continue
        assert "vmlinuz" not in result.out
        assert "usr" not in result.out.split()


def lay_out(box: Box, tmp_path: Path) -> list[str]:
    """Return programs that are the host's, if only a descriptor of the host's leads there.

    By their paths, by links to them, and by scripts that name them as their interpreters.
    """
    outside = tmp_path / "outside/echo"
    outside.parent.mkdir()
    shutil.copy(BUSYBOX, outside)
    programs = []
    for number in range(3, 24):
        way = f"/proc/self/fd/{number}{'/..' * 12}{outside}"
        (box.rootfs / f"link{number}").symlink_to(way)
        (box.rootfs / f"script{number}").write_text(f"#!{way} escaped\n")
        (box.rootfs / f"script{number}").chmod(0o755)
        programs += [way, f"/link{number}", f"/script{number}"]
    return programs


def test_a_program_behind_a_hosts_descriptor_is_not_found(box: Box, tmp_path: Path) -> None:
    """Nor a link or a script that leads there: no descriptor of the host's is left by then."""
    for number, program in enumerate(lay_out(box, tmp_path)):
        with pytest.raises(StartFailed) as caught:
            box.run(make_spec(program, "escaped"), id=f"c{number}")
        assert caught.value.errno in {ENOENT, ENOTDIR, EACCES}


def test_nor_is_it_found_for_a_process_that_is_added(box: Box, tmp_path: Path) -> None:
    """The monitor has such descriptors, and hands none of them down."""
    programs = lay_out(box, tmp_path)
    box.create("a", make_spec("sleep", "1000"))
    box.driver.start("a")
    for program in programs:
        with pytest.raises(StartFailed) as caught:
            box.exec("a", program, "escaped")
        assert caught.value.errno in {ENOENT, ENOTDIR, EACCES}


def test_tmpcopyup(box: Box) -> None:
    """A tmpfs begins with what the image has there: owners, modes, links."""
    folder = box.rootfs / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("content")
    (folder / "link").symlink_to("sub/file")
    os.chown(folder / "sub", 5, 6)
    folder.chmod(0o750)
    spec = make_spec("sh", "-c", "cat /data/link; ls -ldn /data /data/sub; touch /data/new")
    spec["mounts"].append(
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}
    )
    out = box.run(spec).out
    assert out.startswith("contentdrwxr-x---")
    assert " 5        6 " in out
    assert not (folder / "new").exists()


def test_the_interpreter_is_not_within_reach(box: Box) -> None:
    """What executes on our side of a container is a sealed copy, which nobody can write to."""
    spec = make_spec(
        "sh", "-c", "readlink /proc/1/exe; (: >>/proc/1/exe) 2>/dev/null || echo refused"
    )
    caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]
    spec["process"]["capabilities"] = {"bounding": caps, "effective": caps, "permitted": caps}
    result = box.run(spec, init=True)
    assert "python" not in result.out.partition("/memfd:")[0]
    assert "refused" in result.out


def test_init_reaps_and_passes_signals_on(box: Box) -> None:
    """Pid 1 is a small process that reaps; the command is its child, whose status counts."""
    script = "(sleep 0 & exec true); trap 'exit 11' TERM; echo $$; while :; do sleep 0.1; done"
    box.create("a", make_spec("sh", "-c", script), init=True)
    client = box.start("a")
    assert b"2\n" in client.until(b"\n")
    box.driver.kill("a", 15)
    assert box.wait("a").exit_status == 11


def test_init_passes_a_death_by_signal_on(box: Box) -> None:
    """As 128 and its number."""
    assert box.run(make_spec("sh", "-c", "kill -9 $$"), init=True).status == 137


def test_namespaces_of_another_container_can_be_joined(box: Box) -> None:
    """Network, ipc, uts and pid: the same, and the other container's processes are seen."""
    box.create("first", make_spec("sleep", "1000"))
    box.driver.start("first")
    pid = box.driver.state("first").pid
    names = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}
    spec = make_spec("sh", "-c", "cat /proc/1/cmdline; hostname; readlink /proc/self/ns/net")
    spec.pop("hostname")
    spec["linux"]["namespaces"] = [{"type": "mount"}, {"type": "cgroup"}]
    for kind, name in names.items():
        spec["linux"]["namespaces"].append({"type": kind, "path": f"/proc/{pid}/ns/{name}"})
    out = box.run(spec).out
    assert out.startswith("sleep\x001000\x00box\n")
    assert str(Path(f"/proc/{pid}/ns/net").readlink()) in out
    assert box.driver.state("first").status == "running"


def test_host_namespaces(box: Box) -> None:
    """Those that are not listed are the host's."""
    spec = make_spec("sh", "-c", "for n in pid net ipc; do readlink /proc/self/ns/$n; done")
    spec.pop("hostname")
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    out = box.run(spec).out
    assert out.split() == [
        str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("pid", "net", "ipc")
    ]


def test_user_namespace(box: Box) -> None:
    """Root inside is nobody outside; proc, sys, devices and terminal are there all the same."""
    spec = make_spec(
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; echo x >/dev/null && echo null; "
        "test -d /sys/class/net/lo && echo sys; touch /made && ls -ln /made; tty; ls -ln /dev/zero",
    )
    out = box.run(spec, idmap=IDMAP, stdio=StdioSpec(terminal=True)).out.replace("\r", "")
    assert out.split()[:4] == ["0", "0", "1000000", "65536"]
    for words in ("null\n", "sys\n", "0        0                0", "/dev/pts/0", "crw-rw-rw-"):
        assert words in out
    assert (box.rootfs / "made").stat().st_uid == 0


def test_exec_in_a_user_namespace(box: Box) -> None:
    """An added process is in it too, with pipes and terminal."""
    box.create("a", make_spec("sleep", "1000"), idmap=IDMAP)
    box.driver.start("a")
    assert box.exec("a", "id", "-u").out == "0\n"
    result = box.exec(
        "a", "sh", "-c", "id -u; tty", user={"uid": 5, "gid": 5}, tty=True, exec_id="y"
    )
    assert result.out.split() == ["5", "/dev/pts/0"]
    pid = box.driver.state("a").pid
    assert Path(f"/proc/{pid}").stat().st_uid in (0, 1_000_000)
    assert "1000000" in Path(f"/proc/{pid}/status").read_text()


def test_control_groups_are_shown_readonly(box: Box) -> None:
    """Each hierarchy that the container has a group in, at its own group, and no other."""
    group = Path("/sys/fs/cgroup/pids/pannier-native-test")
    if not group.parent.is_dir():
        pytest.skip("no cgroup v1 pids hierarchy at /sys/fs/cgroup/pids")
    group.mkdir(exist_ok=True)
    try:
        spec = make_spec(
            "sh",
            "-c",
            "ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs; "
            "mkdir /sys/fs/cgroup/pids/x 2>/dev/null || echo ro; grep pids: /proc/self/cgroup",
        )
        spec["mounts"].append(
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["ro"],
            }
        )
        out = box.run(
            spec,
            procs=(group / "cgroup.procs",),
            cgroup_mounts={"pids": group.parent, "memory": Path("/sys/fs/cgroup/memory")},
        ).out
    finally:
        group.rmdir()
    lines = out.split()
    assert lines[:2] == ["pids", "1"]
    assert lines[-2] == "ro"
    assert lines[-1].endswith(":pids:/")
