"""The fields of an OCI specification: each is honoured, or refused by name, never passed over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.runtime import ExecRequest, RuntimeCapability, StdioSpec
from pannier.errors import UnsupportedOperation
from pannier.linux.capabilities import CAPABILITIES as CAPABILITY_BITS
from pannier.linux.mounts import MS_BIND, MS_SHARED, mount, umount
from pannier.testing.base import mandatory, refuses, requires
from pannier.testing.runtime_bench import (
    CAPABILITIES,
    FOREVER,
    RuntimeBench,
    RuntimeTests,
    make_spec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers import oci

__all__ = ["SpecTests"]

_IDMAP = IdMap((IdMapping(0, 1_000_000, 65536),), (IdMapping(0, 1_000_000, 65536),))
_STATUS = ("cat", "/proc/self/status")


@dataclass(frozen=True, slots=True)
class _Case:
    """A field, a script that shows it, and what the script says where the field is honoured.

    :param change: sets the field in a specification.
    :param name: part of the field's name, which a refusal has to say.
    """

    name: str
    change: Callable[[Any], object]
    script: str
    expected: str


_CASES = (
    _Case(
        "domain",
        lambda spec: spec.update(domainname="kit.example"),
        "cat /proc/sys/kernel/domainname",
        "kit.example",
    ),
    _Case(
        "umask",
        lambda spec: spec["process"]["user"].update(umask=0o27),
        "umask",
        "0027",
    ),
    _Case(
        "group",
        lambda spec: spec["process"]["user"].update(gid=100, additionalGids=[7, 8]),
        "id -G",
        "100 7 8",
    ),
    _Case(
        "oom",
        lambda spec: spec["process"].update(oomScoreAdj=321),
        "cat /proc/self/oom_score_adj",
        "321",
    ),
    _Case(
        "sysctl",
        lambda spec: spec["linux"].update(sysctl={"net.ipv4.ip_forward": "1"}),
        "cat /proc/sys/net/ipv4/ip_forward",
        "1",
    ),
    _Case(
        "rlimit",
        lambda spec: spec["process"].update(
            rlimits=[{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}]
        ),
        "ulimit -n; ulimit -Hn",
        "123 456",
    ),
    _Case(
        "device",
        lambda spec: spec["linux"].update(
            devices=[
                {"path": "/dev/kit", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640}
                | {"uid": 7, "gid": 8}
            ]
        ),
        "test -c /dev/kit && stat -c '%a %u %g' /dev/kit",
        "640 7 8",
    ),
    _Case(
        "propagation",
        lambda spec: spec["linux"].update(rootfsPropagation="unbindable"),
        "while read -r a b c d point e rest; do test $point = / && echo $rest; done "
        "</proc/self/mountinfo | head -n 1 | { read -r word rest; echo $word; }",
        "unbindable",
    ),
    _Case(
        "tmpcopyup",
        lambda spec: spec["mounts"].append(
            {"destination": "/etc", "type": "tmpfs", "source": "x", "options": ["tmpcopyup"]}
        ),
        "head -n 1 /etc/group",
        "root:x:0:",
    ),
)


class SpecTests(RuntimeTests):
    """The specification's fields."""

    @mandatory
    @pytest.mark.parametrize("case", _CASES, ids=[case.name for case in _CASES])
    def test_a_field_is_honoured_or_refused(self, bench: RuntimeBench, case: _Case) -> None:
        """What a runtime does not offer it refuses by name, before anything is started."""
        spec = make_spec("sh", "-c", case.script)
        case.change(spec)
        try:
            result = bench.run(spec)
        except UnsupportedOperation as error:
            refusal = error.message.lower()
        else:
            assert result.out.split() == case.expected.split(), result.err
            return
        assert case.name in refusal

    @mandatory
    def test_hooks_are_run_or_refused(self, bench: RuntimeBench, place: Path) -> None:
        """Programs of the life cycle are never passed over in silence."""
        mark = place / "hooked"
        spec = make_spec("true")
        hook: oci.Hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{mark}"]}
        spec["hooks"] = {"createRuntime": [hook]}
        try:
            bench.run(spec)
        except UnsupportedOperation as error:
            refusal = error.message
        else:
            assert mark.exists(), "the hook was neither run nor refused"
            return
        assert "hook" in refusal

    # What a container is.

    @mandatory
    def test_its_processes_and_names_are_its_own(self, bench: RuntimeBench) -> None:
        """Pid 1 is its program; hostname, links and control group are not the host's."""
        result = bench.sh(
            "echo $$; cat /proc/sys/kernel/hostname; ls /sys/class/net; "
            "while IFS=: read -r a b path; do echo $path; done </proc/self/cgroup"
        )
        pid, name, link, *groups = result.out.split()
        assert (pid, name, link) == ("1", "kit", "lo")
        assert set(groups) == {"/"}
        assert Path("/proc/sys/kernel/hostname").read_text().strip() != "kit"

    @mandatory
    def test_its_root_is_all_that_it_sees(self, bench: RuntimeBench) -> None:
        """The mounts are those of the specification: nothing of the host's, in their order."""
        out = bench.run(make_spec("cat", "/proc/self/mountinfo")).out
        points = [line.split(" ")[4] for line in out.splitlines()]
        assert points[:5] == ["/", "/proc", "/dev", "/dev/pts", "/sys"]
        for point in points[5:]:
            assert point.startswith(("/proc/", "/sys/", "/dev/")), point
        assert str(bench.rootfs.parent) not in {line.split(" ")[3] for line in out.splitlines()}

    @mandatory
    def test_its_mounts_are_not_the_hosts(self, bench: RuntimeBench) -> None:
        """Its root is copied from a shared mount: what is mounted in it does not spread there."""
        root = str(bench.rootfs)
        mount(root, root, None, MS_BIND)
        try:
            mount(None, root, None, MS_SHARED)
            bench.runs(make_spec(*FOREVER))
            mounted = Path("/proc/self/mountinfo").read_text().splitlines()
            points = [line.split(" ")[4] for line in mounted]
            assert [point for point in points if point.startswith(root)] == [root]
            bench.driver.delete("box")
        finally:
            umount(root)

    @mandatory
    def test_nothing_is_handed_down(self, bench: RuntimeBench) -> None:
        """A fresh process: three descriptors, no signal blocked or ignored, that environment."""
        spec = make_spec("ls", "/proc/self/fd")
        # The fourth is the one that ls itself opens.
        assert bench.run(spec).out.split() == ["0", "1", "2", "3"]
        status = _fields(bench.run(make_spec(*_STATUS)).out)
        assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) == 0
        env = bench.run(make_spec("env", env=["PATH=/bin", "WORD=a b"])).out.splitlines()
        assert {line for line in env if not line.startswith("HOME=")} == {"PATH=/bin", "WORD=a b"}

    @mandatory
    def test_nothing_is_handed_down_to_added_processes(self, bench: RuntimeBench) -> None:
        """They have their three streams, and no descriptor of ours."""
        bench.runs(make_spec(*FOREVER))
        assert bench.exec("ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]

    @mandatory
    def test_capabilities(self, bench: RuntimeBench) -> None:
        """The sets are those of the specification, and no larger."""
        status = _fields(bench.run(make_spec(*_STATUS)).out)
        expected = sum(1 << CAPABILITY_BITS[name] for name in CAPABILITIES)
        for name in ("CapBnd", "CapEff", "CapPrm"):
            assert int(status[name], 16) == expected, name
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0

    @mandatory
    def test_a_user_without_privileges(self, bench: RuntimeBench) -> None:
        """Uid and gid are the specification's; nothing of root's power is left."""
        spec = make_spec("sh", "-c", "id -u; id -g; cat /proc/self/status")
        spec["process"]["user"] = {"uid": 1000, "gid": 1000}
        uid, gid, *rest = bench.run(spec).out.splitlines()
        assert (uid, gid) == ("1000", "1000")
        status = _fields("\n".join(rest))
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["Groups"].split() in ([], ["1000"])

    @mandatory
    def test_the_working_directory(self, bench: RuntimeBench) -> None:
        """It is the specification's."""
        assert bench.run(make_spec("pwd", cwd="/tmp")).out == "/tmp\n"

    @mandatory
    def test_no_new_privileges(self, bench: RuntimeBench) -> None:
        """The bit is set where it is asked for, and only there."""
        for wanted in (False, True):
            status = _fields(bench.run(make_spec(*_STATUS, noNewPrivileges=wanted)).out)
            assert status["NoNewPrivs"] == str(int(wanted))

    @mandatory
    def test_a_system_call_filter(self, bench: RuntimeBench) -> None:
        """What it denies fails with the errno that it says, also for added processes."""
        script = "mkdir /tmp/made 2>/dev/null && echo made || echo refused; sleep 1000"
        spec = make_spec("sh", "-c", script)
        spec["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
            ],
        }
        assert b"refused\n" in bench.runs(spec).until(b"\n")
        assert bench.exec("mkdir", "/tmp/made").status != 0
        assert not (bench.rootfs / "tmp/made").exists()

    @mandatory
    def test_masked_and_readonly_paths(self, bench: RuntimeBench) -> None:
        """A masked file is empty, a masked folder too; a read-only one cannot be written."""
        result = bench.sh(
            "wc -c </proc/keys; ls /sys/firmware | wc -l; "
            "echo h 2>/dev/null >/proc/sysrq-trigger || echo refused; "
            "echo x 2>/dev/null >/proc/sys/kernel/domainname || echo refused"
        )
        assert result.out.split() == ["0", "0", "refused", "refused"]

    @mandatory
    def test_a_read_only_root(self, bench: RuntimeBench) -> None:
        """It cannot be written to; what is mounted in it can."""
        spec = make_spec(
            "sh", "-c", "touch /x 2>/dev/null || echo refused; touch /dev/x && echo ok"
        )
        spec["root"]["readonly"] = True
        assert bench.run(spec).out.split() == ["refused", "ok"]
        assert not (bench.rootfs / "x").exists()

    @mandatory
    def test_the_usual_devices(self, bench: RuntimeBench) -> None:
        """Those that the specification lists for every container work, for every user."""
        script = (
            "for name in null zero full random urandom tty; do stat -c '%n %a' /dev/$name; done"
        )
        lines = bench.sh(f"{script}; echo x >/dev/full || echo full; head -c 3 /dev/zero").out
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            assert f"/dev/{name} 666\n" in lines
        assert lines.endswith("full\n\0\0\0")

    @mandatory
    def test_binds(self, bench: RuntimeBench, place: Path) -> None:
        """A folder and a file are shown where they should be; read-only ones cannot be changed."""
        source = place / "source"
        source.mkdir()
        (source / "file").write_text("content ")
        spec = make_spec(
            "sh",
            "-c",
            "cat /a/b/file /f; touch /a/b/new 2>/dev/null || echo refused; touch /rw/new",
        )
        for destination, path, options in (
            ("/a/b", source, ["rbind", "ro"]),
            ("/f", source / "file", ["bind", "ro"]),
            ("/rw", source, ["rbind"]),
        ):
            spec["mounts"].append(
                {
                    "destination": destination,
                    "type": "bind",
                    "source": str(path),
                    "options": options,
                }
            )
        assert bench.run(spec).out.split() == ["content", "content", "refused"]
        assert (source / "new").exists()

    @mandatory
    @pytest.mark.parametrize("link", ["/etc", "../../../../etc"])
    def test_links_lead_mounts_nowhere_else(
        self, bench: RuntimeBench, place: Path, link: str
    ) -> None:
        """A symbolic link in the image takes a mount's destination into the image alone."""
        source = place / "source"
        source.mkdir()
        (source / "mark").touch()
        (bench.rootfs / "link").symlink_to(link)
        spec = make_spec("ls", "/etc/pannier-kit")
        spec["mounts"].append(
            {
                "destination": "/link/pannier-kit",
                "type": "bind",
                "source": str(source),
                "options": ["rbind"],
            }
        )
        assert bench.run(spec).out == "mark\n"
        assert not Path("/etc/pannier-kit").exists()

    @mandatory
    def test_namespaces_of_another_container(self, bench: RuntimeBench) -> None:
        """A namespace with a path is joined, one that is not listed is the host's."""
        bench.runs(make_spec(*FOREVER), "first")
        pid = bench.driver.state("first").pid
        spec = make_spec("sh", "-c", "for n in net ipc uts; do readlink /proc/self/ns/$n; done")
        del spec["hostname"]
        spec["linux"]["namespaces"] = [
            {"type": "mount"},
            {"type": "pid"},
            {"type": "network", "path": f"/proc/{pid}/ns/net"},
            {"type": "uts", "path": f"/proc/{pid}/ns/uts"},
        ]
        net, ipc, uts = bench.run(spec).out.split()
        assert net == str(Path(f"/proc/{pid}/ns/net").readlink())
        assert uts == str(Path(f"/proc/{pid}/ns/uts").readlink())
        assert ipc == str(Path("/proc/self/ns/ipc").readlink())

    # What comes with the request.

    @mandatory
    def test_it_enters_its_control_group(self, bench: RuntimeBench, place: Path) -> None:
        """Each file that is given for that has 0 written to it, or the pid; added ones alike."""
        files = tuple(place / name for name in ("one", "two", "three"))
        for file in files:
            file.touch()
        bench.runs(make_spec(*FOREVER), procs=files[:2])
        process = make_spec(*FOREVER)["process"]
        added = bench.driver.exec("box", ExecRequest("x", process, procs=files[2:]))
        first = bench.driver.state("box").pid
        for file, pid in zip(files, (first, first, added), strict=True):
            # A runtime may have several of its own processes enter, each with a write.
            assert re.fullmatch(rf"((0|{pid})\n?)+", file.read_text()), file.name

    @mandatory
    def test_a_small_init(self, bench: RuntimeBench) -> None:
        """Asked for, it is pid 1, passes signals and the status on; or it is refused."""
        script = "trap 'exit 11' TERM; echo up $$; while :; do sleep 0.05; done"
        try:
            bench.create(make_spec("sh", "-c", script), init=True)
        except UnsupportedOperation as error:
            refusal = error.message
        else:
            client = bench.start()
            assert b"up 1\n" not in client.until(b"\n")
            bench.driver.kill("box", 15)
            assert bench.wait().exit_status == 11
            return
        assert "init" in refusal

    @requires(RuntimeCapability.USER_NAMESPACE)
    def test_a_user_namespace(self, bench: RuntimeBench) -> None:
        """Root inside is the mapped user outside; devices and a terminal are there all the same."""
        script = "id -u; cat /proc/self/uid_map; echo x >/dev/null && echo null; tty"
        spec = make_spec("sh", "-c", script, terminal=True)
        stdio = StdioSpec(terminal=True)
        words = bench.run(spec, idmap=_IDMAP, stdio=stdio).out.replace("\r", "").split()
        assert words == ["0", "0", "1000000", "65536", "null", "/dev/pts/0"]

    @refuses(RuntimeCapability.USER_NAMESPACE)
    def test_user_namespaces_are_refused(self, bench: RuntimeBench) -> None:
        """Without the capability root inside is not silently root outside."""
        with self.refused():
            bench.create(make_spec("true"), idmap=_IDMAP)


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a /proc/PID/status."""
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
