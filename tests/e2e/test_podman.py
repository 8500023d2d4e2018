"""Debian's podman with ``--runtime pannier-runtime``, beside podman with runc."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.linux.cgroupfs import cgroup_mounts, remove_group
from support.bundles import PROGRAM, make_root, read_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = "localhost/box:1"
_DEADLINE = 120
_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["pannier-runtime", "runc"]
"""


@dataclass
class Podman:
    """Podman with folders, a control group and a network namespace of its own."""

    folder: Path
    namespace: str
    runtime: str = str(PROGRAM)

    @property
    def group(self) -> str:
        return f"/{self.folder.name}"

    def command(self, *words: str) -> list[str]:
        folders = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run"]
        return ["nsenter", f"--net={self.namespace}", "podman", *folders,
                "--tmpdir", f"{self.folder}/tmp", "--runtime", self.runtime, *words]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": f"{self.folder}/containers.conf"}

    def call(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run podman to its end, whatever that is."""
        return subprocess.run(
            self.command(*words),
            input=input,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=_DEADLINE,
            check=False,
        )

    def do(self, *words: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.call(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def run(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run a container that is gone afterwards, without a network."""
        usual = ("--network", "none", "--cgroup-parent", self.group)
        return self.call("run", "--rm", *usual, *words, input=input)


@pytest.fixture(scope="module")
def place() -> Iterator[Podman]:
    """Give podman an image and a place, of which nothing is left afterwards."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman: apt-get install --no-install-recommends podman runc")
    folder = Path(tempfile.mkdtemp(prefix="pannier-pm-", dir="/tmp"))
    folder.chmod(0o711)  # else mapped users do not get to their roots
    (folder / "containers.conf").write_text(_CONF)
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep infinity"],
        stdout=subprocess.PIPE,
    ) as sleeper:
        try:
            assert sleeper.stdout is not None
            sleeper.stdout.readline()
            podman = Podman(folder, f"/proc/{sleeper.pid}/ns/net")
            root = make_root(folder / "rootfs")
            (root / "data").mkdir()
            archive = folder / "rootfs.tar"
            subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
            podman.do("import", str(archive), IMAGE)
            yield podman
            podman.do("pod", "rm", "--all", "--force")
            podman.do("rm", "--all", "--force", "--time", "0")
            podman.do("rmi", "--all", "--force")
        finally:
            sleeper.kill()
            subprocess.run(
                ["umount", "-l", folder / "root/overlay"], check=False, capture_output=True
            )
            for mount in cgroup_mounts():
                remove_group(mount.path / folder.name, 5.0)
            shutil.rmtree(folder, ignore_errors=True)
    assert not folder.exists()


LIMITS = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cap-drop", "all",
          "--security-opt", "no-new-privileges")  # fmt: skip
STATUS = "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status"
MOUNTS = "grep -v ' / ' /proc/mounts | cut -d' ' -f 2,3 | sort"
EXTRAS = (
    "ulimit -n; ulimit -Hn; ls -l /dev/other | tr -s ' ' | cut -d' ' -f 1,5,6;"
    "echo x > /dev/other; umask; id; cat /proc/self/oom_score_adj; ls /etc | wc -l;"
    "df /dev/shm /data | tail -n +2 | tr -s ' ' | cut -d' ' -f 2"
)
CASES = {
    "status": ("sh", "-c", "echo out; echo err >&2; exit 3"),
    "missing": ("nosuch",),
    "forbidden": ("/etc",),
    "user": (
        *("--user", "1000:1001", "--workdir", "/tmp", "--env", "WORD=word", "--read-only"),
        *("--tmpfs", "/data", "--hostname", "named", IMAGE),
        *(
            "sh",
            "-c",
            f"id -u; id -g; pwd; echo $WORD; touch /x; hostname; touch /data/x; {STATUS}",
        ),
    ),
    "limits": (
        *LIMITS,
        IMAGE,
        "sh",
        "-c",
        f"{STATUS}; find /sys/fs/cgroup -name pids.max -exec cat {{}} +",
    ),
    "mounts": (
        *("--volume", "/usr/share/doc:/data:ro", "--sysctl", "net.ipv4.ip_forward=1", IMAGE),
        *("sh", "-c", f"touch /data/x; cat /proc/sys/net/ipv4/ip_forward; {MOUNTS}"),
    ),
    "userns": (
        *("--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", IMAGE),
        *("sh", "-c", "cat /proc/self/uid_map; id -u; ls -ln / | tr -s ' ' | cut -d' ' -f 3,9"),
    ),
    "extras": (
        *(
            "--ulimit",
            "nofile=100:200",
            "--ulimit",
            "nproc=100:100",
            "--device",
            "/dev/null:/dev/other:r",
            "--umask",
            "0077",
        ),
        *("--group-add", "7", "--oom-score-adj", "500", "--shm-size", "1m", "--annotation", "a=b"),
        *("--tmpfs", "/data:size=1m", "--security-opt", "mask=/etc", "--ipc", "private", IMAGE),
        *(
            "sh",
            "-c",
            EXTRAS,
        ),
    ),
    "shared": ("--pid", "host", "--ipc", "host", "--uts", "host", IMAGE, "sh", "-c", "hostname"),
    "privileged": ("--privileged", IMAGE, "sh", "-c", STATUS),
}


EXITS = {"status": 3, "missing": 127, "forbidden": 126}
"""What is not 0: lest both fail alike, and be taken for right."""


def plain(text: str, runtime: str) -> str:
    """Return what was said without the runtime's own name and way to begin."""
    text = text.replace(runtime, "RUNTIME")
    return re.sub(r"RUNTIME: (RUNTIME \w+ failed: unable to start container process: )?", "", text)


@pytest.mark.parametrize("case", CASES)
def test_a_container_is_as_with_runc(place: Podman, case: str) -> None:
    """Its exit status, its output, and podman's own words are those that runc leads to."""
    if shutil.which("runc") is None:
        pytest.skip("needs runc to compare with: apt-get install runc")
    words = CASES[case] if IMAGE in CASES[case] else (IMAGE, *CASES[case])
    said = []
    for runtime in (str(PROGRAM), "runc"):
        done = Podman(place.folder, place.namespace, runtime).run(*words)
        said.append((done.returncode, done.stdout, plain(done.stderr, runtime)))
    assert said[0] == said[1]
    assert said[0][0] == EXITS.get(case, 0)


def test_a_container_lives_its_life(place: Podman) -> None:
    """Detached, executed in, paused, logged, stopped with its own status, started again, killed."""
    script = "trap 'exit 7' TERM; echo started; while :; do sleep 0.1; done"
    usual = ("--network", "none", "--cgroup-parent", place.group)
    place.do("run", "--detach", "--name", "one", *usual, IMAGE, "sh", "-c", script)
    done = place.call("exec", "--env", "A=b", "one", "sh", "-c", "echo in $A; exit 5")
    assert (done.returncode, done.stdout) == (5, "in b\n")
    assert place.call("exec", "one", "nosuch").returncode == 127
    assert place.call("exec", "--tty", "one", "tty").stdout == "/dev/pts/0\n"
    assert place.do("ps", "--format", "{{.Names}}") == "one"
    place.do("pause", "one")
    assert place.do("inspect", "one", "--format", "{{.State.Status}}") == "paused"
    place.do("unpause", "one")
    assert "sh" in place.do("top", "one", "comm")
    assert place.do("logs", "one") == "started"
    place.do("stop", "one")
    (found,) = json.loads(place.do("inspect", "one"))
    assert (found["State"]["Status"], found["State"]["ExitCode"]) == ("exited", 7)
    assert found["OCIRuntime"] == str(PROGRAM)
    place.do("start", "one")
    place.do("kill", "--signal", "KILL", "one")
    assert place.do("wait", "one") == "137"
    place.do("rm", "one")


def test_a_created_container_can_be_stopped(place: Podman) -> None:
    """What has not been started hears what asks it to end, at once."""
    place.do("create", "--name", "new", "--network", "none", "--cgroup-parent", place.group,
             IMAGE, "sleep", "1000")  # fmt: skip
    place.do("init", "new")
    assert place.call("stop", "--time", "60", "new").stderr == ""
    assert place.do("inspect", "new", "--format", "{{.State.Status}}") == "exited"
    place.do("rm", "new")


def test_hooks_of_podman_run(place: Podman) -> None:
    """Each at its point; one that fails is podman's error, and nothing of the container is left."""
    hooks = place.folder / "hooks"
    hooks.mkdir()
    stages = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    for stage in stages:
        words = ["sh", "-c", f"echo {stage} >> {place.folder}/seen; test ! -e {hooks}/{stage}"]
        hook = {"path": "/bin/sh", "args": words}
        file = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": [stage]}
        (hooks / f"{stage}.json").write_text(json.dumps(file))
    usual = ("--network", "none", "--cgroup-parent", place.group, IMAGE, "echo", "hello")
    run = ("--hooks-dir", str(hooks), "run", "--rm", "--name", "hooked", *usual)
    assert place.do(*run) == "hello"
    assert (place.folder / "seen").read_text().split() == list(stages)
    for stage in ("prestart", "createContainer", "poststart"):
        (hooks / stage).touch()
        done = place.call(*run)
        (hooks / stage).unlink()
        assert done.returncode == 126
        assert f"{stage} hook /bin/sh failed: exit status 1" in done.stderr
        assert place.do("ps", "--all", "--quiet") == ""


def test_a_terminal_is_interactive(place: Podman) -> None:
    """``run -it`` shows a prompt's work, takes input, and gives the program's status."""
    master, slave = pty.openpty()
    usual = ("--network", "none", "--cgroup-parent", place.group)
    command = place.command("run", "--rm", "-it", *usual, IMAGE, "sh")
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=place.environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(slave)
        os.write(master, b"tty; echo $((6 * 7)); exit 9\n")
        shown = read_terminal(master)
        assert process.wait(_DEADLINE) == 9, shown
    assert "/dev/pts/0\r\n" in shown
    assert "42\r\n" in shown


def test_input_goes_through(place: Podman) -> None:
    """A pipe's content reaches the program, and its end too."""
    assert (
        place.run("--interactive", IMAGE, "cat", input="word\n" * 10_000).stdout
        == "word\n" * 10_000
    )


def test_a_pod_shares_namespaces(place: Podman) -> None:
    """A container of a pod is in the namespaces of the pod's first one."""
    place.do(
        *("pod", "create", "--name", "pod", "--network", "none", "--infra-image", IMAGE),
        *("--infra-command", "sleep 1000", "--hostname", "podhost"),
        *("--cgroup-parent", place.group),
    )
    assert place.call("run", "--rm", "--pod", "pod", IMAGE, "hostname").stdout == "podhost\n"
    first = place.call("run", "--rm", "--pod", "pod", IMAGE, "readlink", "/proc/self/ns/ipc")
    second = place.call("run", "--rm", "--pod", "pod", IMAGE, "readlink", "/proc/self/ns/ipc")
    assert first.stdout == second.stdout != ""
    place.do("pod", "rm", "--force", "--time", "0", "pod")


def test_a_pod_shares_a_user_namespace(place: Podman) -> None:
    """That of its first container, with its maps; what is added to a container is in it too."""
    maps = ("--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000")
    place.do(
        *("pod", "create", "--name", "mapped", "--network", "none", "--infra-image", IMAGE, *maps),
        *("--infra-command", "sleep 1000", "--cgroup-parent", place.group),
    )
    place.do("run", "--detach", "--pod", "mapped", "--name", "inner", IMAGE, "sleep", "1000")
    shown = place.do("exec", "inner", "sh", "-c", "cat /proc/self/uid_map; id -u; touch /x")
    assert shown.split() == ["0", "100000", "5000", "0"]
    place.do("pod", "rm", "--force", "--time", "0", "mapped")


def test_a_socket_of_a_service_manager_reaches_the_program(place: Podman) -> None:
    """What podman is passed by sd_listen_fds(3) the program is passed, as by runc."""
    if shutil.which("runc") is None:
        pytest.skip("needs runc to compare with: apt-get install runc")
    words = ("--rm", "--network", "none", "--cgroup-parent", place.group, IMAGE)
    program = ("sh", "-c", "echo word >&3; echo $LISTEN_FDS $LISTEN_PID $(ls /proc/self/fd)")
    shown = []
    for runtime in (place.runtime, "runc"):
        passed = place.folder / "passed"
        command = replace(place, runtime=runtime).command("run", *words, *program)
        script = f'exec 3> {passed}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *command],
            capture_output=True,
            text=True,
            env=place.environment,
            timeout=_DEADLINE,
            check=False,
        )
        assert passed.read_text() == "word\n", done.stderr
        shown.append(done.stdout)
    assert shown[0] == shown[1]
