"""Dockerfiles built by a daemon, and what comes of them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.daemon import Daemon

pytestmark = pytest.mark.root


def context(folder: Path, dockerfile: str, files: Mapping[str, str | None] | None = None) -> Path:
    """Write a context; a file's None makes a folder."""
    for name, text in {"Dockerfile": dockerfile, **(files or {})}.items():
        path = folder / name
        if text is None:
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


def build(daemon: Daemon, folder: Path, *flags: str) -> str:
    """Build a context; return the whole image id."""
    iid = folder.parent / f"{folder.name}.iid"
    daemon.cli("build", "--iidfile", str(iid), *flags, str(folder))
    return iid.read_text()


def sh(daemon: Daemon, image: str, line: str) -> str:
    """Run a shell's line in an image."""
    words = ("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", line)
    return daemon.cli(*words).stdout


def config(daemon: Daemon, image: str) -> dict[str, Any]:
    """Return an image's configuration."""
    found: dict[str, Any] = json.loads(daemon.cli("image", "inspect", image).stdout)[0]["Config"]
    return found


def test_every_instruction_takes_effect(daemon: Daemon, tmp_path: Path) -> None:
    """The language as a whole, in one image."""
    text = """\
ARG BASE=busybox
FROM $BASE
MAINTAINER someone
ARG WHO=world
ENV GREETING="hello $WHO" OTHER=$BASE
LABEL a=b c="d e"
WORKDIR /app
COPY one.txt two.txt ./
ADD archive.tar /unpacked
RUN echo $GREETING > greeting && pwd > where
SHELL ["/bin/sh", "-ec"]
RUN ["sh", "-c", "echo exec > form"]
USER nobody
VOLUME /data
EXPOSE 80 53/udp
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=7s CMD true
ENTRYPOINT ["/bin/cat"]
CMD ["greeting"]
"""
    folder = context(tmp_path / "c", text, {"one.txt": "1", "two.txt": "2"})
    with tarfile.open(folder / "archive.tar", "w") as archive:
        info = tarfile.TarInfo("inner/file")
        info.size, info.mode, info.uid = 3, 0o640, 33
        archive.addfile(info, io.BytesIO(b"abc"))
    image = build(daemon, folder)
    found = config(daemon, image)
    assert found["Env"][1:] == ["GREETING=hello world", "OTHER="]
    assert found["Labels"] == {"a": "b", "c": "d e"}
    assert (found["WorkingDir"], found["User"]) == ("/app", "nobody")
    assert found["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert (found["Entrypoint"], found["Cmd"]) == (["/bin/cat"], ["greeting"])
    assert (found["Volumes"], found["StopSignal"]) == ({"/data": {}}, "SIGQUIT")
    assert found["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 7_000_000_000}
    assert daemon.cli("run", "--rm", image).stdout == "hello world\n"
    line = "cat where form one.txt two.txt; stat -c '%a %u' /unpacked/inner/file"
    assert sh(daemon, image, line) == "/app\nexec\n12640 33\n"
    inspected = json.loads(daemon.cli("image", "inspect", image).stdout)[0]
    assert inspected["Author"] == "someone"


def test_heredocs_are_scripts_and_files(daemon: Daemon, tmp_path: Path) -> None:
    """With variables or without, for another program, with an interpreter of their own."""
    text = """\
FROM busybox
ENV NAME=x
RUN <<EOF
echo one > /script
echo two >> /script
EOF
RUN cat <<EOF > /piped
$NAME "quoted"
EOF
COPY <<EOF <<'RAW' /files/
$NAME 'kept'
EOF
$NAME
RAW
COPY --chmod=755 --chown=33 <<EOF /bin/tool
#!/bin/sh
echo tool
EOF
"""
    image = build(daemon, context(tmp_path / "c", text))
    assert sh(daemon, image, "cat /script /piped /files/EOF /files/RAW; tool") == (
        "one\ntwo\nx \"quoted\"\nx 'kept'\n$NAME\ntool\n"
    )
    assert sh(daemon, image, "stat -c %a:%u:%g /bin/tool") == "755:33:33\n"


def test_stages_are_named_numbered_and_left_out(daemon: Daemon, tmp_path: Path) -> None:
    """COPY --from a stage and an image; a stage that nothing needs is not run."""
    text = """\
FROM busybox AS one
RUN echo one > /one && chown 33:33 /one
FROM busybox AS broken
RUN false
FROM scratch AS files
COPY --from=one /one /a
COPY --from=0 --chown=7:8 /one /b
COPY --from=busybox /etc/passwd /c
FROM busybox
COPY --from=files / /got/
"""
    folder = context(tmp_path / "c", text)
    image = build(daemon, folder)
    assert sh(daemon, image, "cd /got && stat -c %n:%u:%g *") == "a:33:33\nb:7:8\nc:0:0\n"
    target = build(daemon, folder, "--target", "one")
    assert sh(daemon, target, "cat /one") == "one\n"
    done = daemon.cli("build", "--target", "broken", str(folder), check=False)
    assert done.returncode == 1
    assert "returned a non-zero code: 1" in done.stderr


def test_what_a_step_says_of_errors_is_red(daemon: Daemon, tmp_path: Path) -> None:
    """The builder's clients tell the two streams apart by that."""
    folder = context(tmp_path / "c", "FROM busybox\nRUN echo fine; echo wrong >&2\n")
    said = daemon.docker("build", "--no-cache", str(folder)).stdout
    assert "\nfine\n" in said
    assert "\x1b[91mwrong\n\x1b[0m" in said


def test_named_images_are_the_only_cache(daemon: Daemon, tmp_path: Path) -> None:
    """A build that names where to take steps from depends on that alone."""
    folder = context(tmp_path / "c", "FROM busybox\nRUN echo once > /x\nENV A=1\n")
    daemon.cli("build", "-t", "known:1", str(folder))
    again = daemon.cli("build", str(folder)).stdout
    assert again.count("Using cache") == 2
    named = daemon.cli("build", "--cache-from", "known:1", str(folder)).stdout
    assert named.count("Using cache") == 2
    other = daemon.cli("build", "--cache-from", "nosuch:1", str(folder)).stdout
    assert "Using cache" not in other


def test_independent_stages_run_side_by_side(daemon: Daemon, tmp_path: Path) -> None:
    """Each waits for the other: one after another they would never end."""
    wait = "i=0; until [ -e /c/{0} ]; do i=$((i+1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done"
    mount = "RUN --mount=type=cache,id=meet,target=/c touch /c/"
    text = (
        f"FROM busybox AS a\n{mount}a; {wait.format('b')}; touch /done\n"
        f"FROM busybox AS b\n{mount}b; {wait.format('a')}; touch /done\n"
        "FROM busybox\nCOPY --from=a /done /a\nCOPY --from=b /done /b\n"
    )
    image = build(daemon, context(tmp_path / "c", text))
    assert sh(daemon, image, "ls /a /b") == "/a\n/b\n"


def test_triggers_of_a_base_run_first(daemon: Daemon, tmp_path: Path) -> None:
    """And are gone from what they made."""
    base = context(tmp_path / "base", "FROM busybox\nONBUILD COPY f /\nONBUILD RUN cat /f > /g\n")
    build(daemon, base, "-t", "onbuild:1")
    folder = context(tmp_path / "c", "FROM onbuild:1\nRUN cat /g /g > /h\n", {"f": "x"})
    done = daemon.cli("build", "-t", "triggered:1", str(folder))
    assert "# Executing 2 build triggers" in done.stdout
    assert sh(daemon, "triggered:1", "cat /h") == "xx"
    assert not config(daemon, "triggered:1").get("OnBuild")
    missing = context(tmp_path / "m", "FROM onbuild:1\n")
    failed = daemon.cli("build", str(missing), check=False)
    assert "COPY failed" in failed.stderr


class TestMounts:
    """RUN --mount."""

    def test_each_kind_and_what_stays_of_it(self, daemon: Daemon, tmp_path: Path) -> None:
        """Caches are kept between builds, all else leaves nothing, not even its place."""
        text = """\
FROM busybox AS other
RUN mkdir /d && echo other > /d/f
FROM busybox
ARG N
RUN --mount=type=bind,target=/src,source=dir --mount=from=other,source=/d,target=/from \
    --mount=type=cache,target=/cache/deep --mount=type=tmpfs,target=/mem \
    cat /src/x /from/f > /out; echo $N >> /cache/deep/n; cat /cache/deep/n >> /out; \
    touch /mem/y; touch /src/new 2>/dev/null || echo read-only >> /out
RUN --mount=type=bind,target=/src,source=dir,rw rm /src/x && touch /src/new && ls /src >> /out
RUN --mount=target=/again,source=dir ls /again >> /out
"""
        folder = context(tmp_path / "c", text, {"dir/x": "bound\n"})
        first = build(daemon, folder, "--build-arg", "N=1")
        second = build(daemon, folder, "--build-arg", "N=2")
        assert sh(daemon, first, "cat /out") == "bound\nother\n1\nread-only\nnew\nx\n"
        assert sh(daemon, second, "cat /out") == "bound\nother\n1\n2\nread-only\nnew\nx\n"
        gone = "ls -d /src /from /cache /mem /again 2>/dev/null | wc -l"
        assert sh(daemon, second, gone) == "0\n"

    def test_what_is_bound_counts_for_the_cache(self, daemon: Daemon, tmp_path: Path) -> None:
        """A changed file runs the command again; its time does not."""
        folder = context(
            tmp_path / "c", "FROM busybox\nRUN --mount=target=/s cat /s/f > /o\n", {"f": "1"}
        )
        first = build(daemon, folder)
        os.utime(folder / "f", (1, 1))
        assert build(daemon, folder) == first
        (folder / "f").write_text("2")
        assert sh(daemon, build(daemon, folder), "cat /o") == "2"

    def test_a_secret_is_seen_and_not_kept(self, daemon: Daemon, tmp_path: Path) -> None:
        """Neither in layers nor history nor cache keys, nor on any disk afterwards."""
        token = "a-very-secret-token"
        text = """\
FROM busybox
RUN --mount=type=secret,id=token,mode=0444,uid=33 stat -c %a:%u /run/secrets/token > /mode
RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /length
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
"""
        (tmp_path / "t").write_text(token)
        folder = context(tmp_path / "c", text)
        secret = ("--secret", f"id=token,src={tmp_path}/t")
        image = build(daemon, folder, *secret)
        assert sh(daemon, image, "cat /mode /length") == f"444:33\n{len(token)}\n"
        assert build(daemon, folder, "--secret", f"id=token,src={folder}/Dockerfile") == image
        for place in ("root", "state"):
            found = subprocess.run(
                ["grep", "-rlaF", token, str(daemon.folder / place)],
                capture_output=True,
                check=False,
                text=True,
            )
            assert found.stdout == ""
        needed = context(
            tmp_path / "n", "FROM busybox\nRUN --mount=type=secret,id=no,required true\n"
        )
        done = daemon.cli("build", str(needed), check=False)
        assert "secret no: not found" in done.stderr

    def test_a_secret_of_the_environment(
        self, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client's, seen as a file."""
        monkeypatch.setenv("A_TOKEN", "s3cret")
        text = """\
FROM busybox
RUN --mount=type=secret,id=token,target=/etc/deep/token wc -c < /etc/deep/token > /length
RUN --mount=type=secret,id=token ! ls /etc/deep 2>/dev/null
"""
        image = build(daemon, context(tmp_path / "c", text), "--secret", "id=token,env=A_TOKEN")
        assert sh(daemon, image, "cat /length") == "6\n"

    @pytest.mark.parametrize(
        ("mount", "words"),
        [
            ("type=ssh", "RUN --mount=type=ssh is not supported"),
            ("type=secret,id=a,env=A", "a secret as a variable (env=) is not supported"),
            ("type=bind,target=/", "a mount's target cannot be the root folder"),
            ("type=tmpfs", "target is required for mount type 'tmpfs'"),
            ("type=cache,target=/a,sharing=odd", "invalid value for sharing: 'odd'"),
            ("type=bind,target=/a,size=1", "unexpected key 'size' for mount type 'bind'"),
            ("type=bind,source=nowhere,target=/a", "nowhere"),
            ("type=bind,from=nobody:1,target=/a", "nobody:1"),
            ("type=warp,target=/a", "unsupported mount type 'warp'"),
            ("target=/a,source", "must be a key=value pair"),
        ],
    )
    def test_what_cannot_be_mounted(
        self, daemon: Daemon, tmp_path: Path, mount: str, words: str
    ) -> None:
        """Is named, and leaves no container."""
        folder = context(tmp_path / "c", f"FROM busybox\nRUN --mount={mount} true\n")
        before = daemon.cli("ps", "-aq").stdout
        done = daemon.cli("build", str(folder), check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert daemon.cli("ps", "-aq").stdout == before

    def test_places_that_are_taken(self, daemon: Daemon, tmp_path: Path) -> None:
        """Files on files, on links of the image, one in another, with variables in their names."""
        text = """\
FROM busybox
RUN mkdir /real && ln -s /real /link && echo old > /file
ARG D=deep
WORKDIR /work
RUN --mount=source=f,target=/file --mount=type=cache,target=/link/in,mode=0750,uid=7 \\
    --mount=type=tmpfs,target=/real/mem,size=1m --mount=source=d,target=$D,rw \\
    --mount=type=tmpfs,target=deep/in \\
    cat /file > /out; stat -c %a:%u /real/in >> /out; touch deep/new deep/in/new; \\
    dd if=/dev/zero of=/real/mem/x bs=1M count=2 2>/dev/null || echo full >> /out
RUN cat /file >> /out; ls /real /work | wc -w >> /out
"""
        folder = context(tmp_path / "c", text, {"f": "new\n", "d/x": "x"})
        image = build(daemon, folder)
        assert sh(daemon, image, "cat /out") == "new\n750:7\nfull\nold\n2\n"


class TestLimits:
    """What a command may take, and how it is confined."""

    def test_flags_are_limits_of_the_commands(self, daemon: Daemon, tmp_path: Path) -> None:
        """Memory, processors, shares, limits of files, shared memory, names, seccomp."""
        # Of cgroup v1, or else of v2, where shares are weights.
        text = """\
FROM busybox
RUN cd /sys/fs/cgroup; one() { cat $1 2>/dev/null || cut -d' ' -f1 $2; }; { \\
    one memory/memory.limit_in_bytes memory.max; one cpu/cpu.cfs_quota_us cpu.max; \\
    one cpu/cpu.shares cpu.weight; one cpuset/cpuset.cpus cpuset.cpus; \\
    ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'; \\
    grep -c '^10.1.2.3.*elsewhere' /etc/hosts; \\
    grep Seccomp: /proc/self/status | cut -f2; } > /out
"""
        image = build(
            daemon,
            context(tmp_path / "c", text),
            *("-m", "64m", "--cpu-quota", "50000", "--cpu-shares", "512", "--cpuset-cpus", "0"),
            *("--ulimit", "nofile=100:200", "--shm-size", "8m", "--add-host", "elsewhere=10.1.2.3"),
            *("--security-opt", "seccomp=unconfined", "--isolation", "default"),
            "--disable-content-trust",
        )
        memory, quota, shares, *rest = sh(daemon, image, "cat /out").split()
        assert (memory, quota, shares in {"512", "20"}) == (str(64 << 20), "50000", True)
        assert rest == ["0", "100", "8192", "1", "0"]

    def test_a_command_that_takes_too_much_is_killed(self, daemon: Daemon, tmp_path: Path) -> None:
        """And the build says so with its status."""
        line = "head -c 100000000 /dev/zero | tail > /dev/null"
        folder = context(tmp_path / "c", f"FROM busybox\nRUN {line}\n")
        done = daemon.cli("build", "-m", "16m", "--memory-swap", "16m", str(folder), check=False)
        assert done.returncode == 137
        assert "returned a non-zero code: 137" in done.stderr


class TestCache:
    """What is done once is not done again."""

    TEXT = "FROM busybox\nARG A=1\nWORKDIR /w\nCOPY . .\nRUN echo ran $A\nENV X=$A\n"

    def lines(self, daemon: Daemon, folder: Path, *flags: str) -> str:
        """Return what a build says."""
        return daemon.cli("build", *flags, str(folder)).stdout

    def test_content_modes_and_arguments_count_and_times_do_not(
        self, daemon: Daemon, tmp_path: Path
    ) -> None:
        """Each change runs what comes after it, and nothing before."""
        folder = context(tmp_path / "c", self.TEXT, {"f": "1"})
        first = build(daemon, folder)
        os.utime(folder / "f", (1, 1))
        assert build(daemon, folder) == first
        assert self.lines(daemon, folder).count("Using cache") == 5
        (folder / "f").chmod(0o600)
        assert self.lines(daemon, folder).count("Using cache") == 2
        (folder / "f").write_text("2")
        assert self.lines(daemon, folder).count("Using cache") == 2
        said = self.lines(daemon, folder, "--build-arg", "A=2")
        assert said.count("Using cache") == 3
        assert "ran 2" in said

    def test_it_can_be_left_alone(self, daemon: Daemon, tmp_path: Path) -> None:
        """--no-cache runs everything."""
        folder = context(tmp_path / "c", self.TEXT)
        build(daemon, folder)
        assert "Using cache" not in self.lines(daemon, folder, "--no-cache")

    def test_it_outlives_the_daemon(self, own_daemon: Daemon, tmp_path: Path) -> None:
        """It is in the database."""
        folder = context(tmp_path / "c", self.TEXT)
        first = build(own_daemon, folder, "-t", "kept")
        own_daemon.kill()
        own_daemon.start()
        assert build(own_daemon, folder) == first

    def test_an_image_from_elsewhere_is_a_source(self, own_daemon: Daemon, tmp_path: Path) -> None:
        """--cache-from takes the steps over from its history."""
        folder = context(tmp_path / "c", self.TEXT, {"f": "1"})
        build(own_daemon, folder, "-t", "elsewhere:1")
        saved = tmp_path / "saved.tar"
        own_daemon.cli("save", "-o", str(saved), "elsewhere:1")
        own_daemon.cli("rmi", "elsewhere:1")
        own_daemon.cli("builder", "prune", "-af")
        own_daemon.cli("load", "-i", str(saved))
        said = self.lines(own_daemon, folder, "--cache-from", "elsewhere:1")
        assert said.count("Using cache") == 5
        assert "ran 1" not in said

    def test_pruning_forgets_what_leads_nowhere(self, own_daemon: Daemon, tmp_path: Path) -> None:
        """A tagged image keeps its steps, --all forgets those as well, nothing tagged goes."""
        tagged = context(tmp_path / "t", self.TEXT, {"f": "tagged"})
        build(own_daemon, tagged, "-t", "kept:1")
        loose = context(tmp_path / "l", self.TEXT, {"f": "loose" * 1000})
        build(own_daemon, loose)
        labelled = own_daemon.cli("builder", "prune", "-f", "--filter", "label=a").stdout
        assert "Total reclaimed space: 0" in labelled
        said = own_daemon.cli("builder", "prune", "-f").stdout
        assert re.search(r"Total reclaimed space: [1-9]", said)
        assert self.lines(own_daemon, tagged).count("Using cache") == 5
        own_daemon.cli("builder", "prune", "-af")
        assert own_daemon.cli("images", "-q", "kept:1").stdout
        assert self.lines(own_daemon, tagged).count("Using cache") == 0


def test_two_builds_give_one_digest(storage_daemon: Daemon, tmp_path: Path) -> None:
    """With SOURCE_DATE_EPOCH no time depends on the day."""
    text = """\
FROM busybox AS a
RUN mkdir -p /made/here && echo x > /made/here/f && ln -s f /made/here/l
FROM busybox
WORKDIR /w
COPY . .
COPY --from=a /made /made
RUN echo y > /y && rm /etc/group
LABEL a=b
"""
    folder = context(tmp_path / "c", text, {"dir/f": "1"})
    epoch = ("--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
    first = build(storage_daemon, folder, *epoch)
    os.utime(folder / "dir" / "f")
    time.sleep(1.1)  # the clock must show another second
    assert build(storage_daemon, folder, *epoch) == first
    found = json.loads(storage_daemon.cli("image", "inspect", first).stdout)[0]
    assert found["Created"] == "2023-11-14T22:13:20Z"
    newer = "find / -xdev -newermt '@1700000000' ! -path '/dev*' ! -path '/etc*' | wc -l"
    late = "touch -d @1700000001 /tmp/t; find /w /made /y -newer /tmp/t | wc -l"
    assert newer
    assert sh(storage_daemon, first, late) == "0\n"


class TestHostile:
    """Contexts and images that try to reach out of their place."""

    def test_links_and_dots_stay_inside_the_context(self, daemon: Daemon, tmp_path: Path) -> None:
        """A link to the host's files leads nowhere."""
        outside = tmp_path / "outside"
        outside.write_text("the host's")
        folder = context(tmp_path / "c", "FROM busybox\nCOPY link /x\n")
        (folder / "link").symlink_to(outside)
        (folder / "dots").symlink_to("../../../../../../../../etc/hostname")
        done = daemon.cli("build", str(folder), check=False)
        assert done.returncode == 1
        assert "file not found in build context" in done.stderr
        for source in ("../outside", "dots", "a/../../outside"):
            (folder / "Dockerfile").write_text(f"FROM busybox\nCOPY {source} /x\n")
            done = daemon.cli("build", str(folder), check=False)
            assert done.returncode == 1
            assert "COPY failed" in done.stderr

    def test_an_archive_cannot_leave_its_folder(self, daemon: Daemon, tmp_path: Path) -> None:
        """ADD unpacks hostile names inside the image, or refuses them."""
        folder = context(tmp_path / "c", "FROM busybox\nADD evil.tar /into/\n")
        with tarfile.open(folder / "evil.tar", "w") as archive:
            link = tarfile.TarInfo("out")
            link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
            archive.addfile(link)
            file = tarfile.TarInfo("out/pwned-by-add")
            file.size = 1
            archive.addfile(file, io.BytesIO(b"x"))
        daemon.cli("build", str(folder), check=False)
        assert not Path("/tmp/pwned-by-add").exists()

    def test_the_images_links_do_not_lead_to_the_host(self, daemon: Daemon, tmp_path: Path) -> None:
        """COPY follows a link of the image inside the image."""
        text = "FROM busybox\nRUN ln -s /tmp/build-escape /link && mkdir /tmp/build-escape\n"
        folder = context(tmp_path / "c", f"{text}COPY f /link/\nCOPY f /link/../up\n", {"f": "1"})
        image = build(daemon, folder)
        assert sh(daemon, image, "cat /tmp/build-escape/f /tmp/up") == "11"
        assert not Path("/tmp/build-escape").exists()

    def test_whiteout_names_of_a_context_are_plain_files(
        self, daemon: Daemon, tmp_path: Path
    ) -> None:
        """A context is no layer: nothing in it is deleted by a name."""
        folder = context(
            tmp_path / "c",
            "FROM busybox\nRUN --mount=target=/c ls -a /c > /list\n",
            {"keep": "1", ".wh.keep": "2"},
        )
        listing = sh(daemon, build(daemon, folder), "cat /list")
        assert ".wh.keep\n" in listing
        assert "keep\n" in listing.replace(".wh.keep\n", "")


class TestErrors:
    """What goes wrong, and how it is told."""

    def test_a_failed_command_names_its_line_and_status(
        self, daemon: Daemon, tmp_path: Path
    ) -> None:
        """The client's exit status is the command's."""
        folder = context(tmp_path / "c", "FROM busybox\n\nRUN echo said; \\\n  exit 42\n")
        done = daemon.cli("build", "--force-rm", str(folder), check=False)
        assert done.returncode == 42
        assert "said" in done.stdout
        assert "returned a non-zero code: 42" in done.stderr
        assert "hint: Dockerfile:3: RUN echo said;" in done.stderr

    def test_a_missing_program_is_told_apart(self, daemon: Daemon, tmp_path: Path) -> None:
        """127, as a shell says."""
        folder = context(tmp_path / "c", 'FROM busybox\nRUN ["/no/such/program"]\n')
        done = daemon.cli("build", "--force-rm", str(folder), check=False)
        assert done.returncode == 127
        assert "/no/such/program" in done.stderr

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("FROM busybox\nFOO\n", "Dockerfile:2: unknown instruction: FOO"),
            ("FROM busybox\nCOPY nope /\n", "COPY failed: file not found in build context"),
            ("FROM busybox\nCOPY *.nope /x/\n", "COPY failed: no source files were specified"),
            ("FROM busybox\nCOPY Dockerfile Dockerfile /x\n", "must be a directory and end with"),
            ("FROM busybox\nCOPY --chown=nobodyatall Dockerfile /\n", "unable to find user"),
            ("FROM busybox\nCOPY --chmod=u+x Dockerfile /\n", "invalid --chmod"),
            ('FROM busybox\nENV A="${B:?give B}"\n', "B: give B"),
            ("FROM scratch\n", "No image was generated"),
            ("FROM busybox\nUSER nobodyatall\nRUN true\n", "unable to find user nobodyatall"),
        ],
    )
    def test_mistakes_are_named(
        self, daemon: Daemon, tmp_path: Path, text: str, words: str
    ) -> None:
        """In Docker's words where it has some."""
        done = daemon.cli("build", "--force-rm", str(context(tmp_path / "c", text)), check=False)
        assert done.returncode == 1
        assert words in done.stderr

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--isolation", "hyperv"), 'Unsupported isolation: "hyperv"'),
            (("--security-opt", "nonsense"), 'Invalid --security-opt: "nonsense"'),
            (("--add-host", "x"), 'bad format for add-host: "x"'),
            (("--ulimit", "foo"), "invalid ulimit argument: foo"),
            (("--output", "x"), "--output is not supported"),
            (("--ssh", "default"), "--ssh is not supported"),
            (("--squash",), "--squash is not supported"),
        ],
    )
    def test_flags_that_cannot_be(
        self, daemon: Daemon, tmp_path: Path, flags: tuple[str, ...], words: str
    ) -> None:
        """Each is named."""
        folder = context(tmp_path / "c", "FROM busybox\n")
        done = daemon.cli("build", *flags, str(folder), check=False)
        assert done.returncode
        assert words in done.stderr

    def test_what_is_not_offered_is_refused_with_a_way_out(self, daemon: Daemon) -> None:
        """BuildKit's protocol, squash, outputs."""
        client = docker.APIClient(base_url=daemon.host, timeout=60)
        for query, words in (
            ("version=2", "DOCKER_BUILDKIT=0"),
            ("squash=1", "FROM scratch"),
            ('outputs=[{"Type":"local"}]', "pannier cp"),
        ):
            answer = client.post(f"{client.base_url}/v1.41/build?{query}", data=b"")
            assert answer.status_code == 501
            assert words in answer.json()["hint"]
        client.close()

    def test_a_client_that_goes_takes_its_build_along(self, daemon: Daemon, tmp_path: Path) -> None:
        """The command is killed, and its container removed."""
        folder = context(tmp_path / "c", "FROM busybox\nRUN echo begun; sleep 1000\n")
        words = [
            str(Path(sys.executable).parent / "pannier"),
            "build",
            "--force-rm",
            str(folder),
        ]
        client = subprocess.Popen(
            words, env={**os.environ, "PANNIER_HOST": daemon.host}, stdout=subprocess.PIPE
        )
        assert client.stdout is not None
        for line in client.stdout:
            if line == b"begun\n":
                break
        client.kill()
        client.wait()
        client.stdout.close()
        deadline = time.monotonic() + 60
        while "sleep 1000" in daemon.cli("ps", "-a", "--no-trunc").stdout:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # nothing tells a stranger that a container has gone


class TestClients:
    """Docker's own clients."""

    def test_the_docker_client_builds(self, daemon: Daemon, tmp_path: Path) -> None:
        """With its builder of before BuildKit."""
        folder = context(
            tmp_path / "c",
            "FROM busybox\nCOPY . /c\nRUN ls -a /c\n",
            {".dockerignore": "*.log\nDockerfile\n.dockerignore", "a.log": "", "b": ""},
        )
        environment = {**os.environ, "DOCKER_HOST": daemon.host, "DOCKER_BUILDKIT": "0"}
        words = ["docker", "build", "-t", "by-docker:1", "--label", "x=y z", str(folder)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Successfully tagged by-docker:1" in done.stdout
        assert sh(daemon, "by-docker:1", "ls -A /c") == "b\n"
        assert config(daemon, "by-docker:1")["Labels"] == {"x": "y z"}

    def test_docker_py_builds(self, daemon: Daemon, tmp_path: Path) -> None:
        """images.build gives the image and the log."""
        folder = context(tmp_path / "c", "FROM busybox\nARG A\nRUN echo A is $A\n")
        client = docker.DockerClient(base_url=daemon.host, timeout=60)
        image, log = client.images.build(
            path=str(folder), tag="by-py:1", buildargs={"A": "b"}, rm=True, labels={"l": "m"}
        )
        assert "by-py:1" in image.tags
        assert any("A is b" in message.get("stream", "") for message in log)
        with pytest.raises(docker.errors.BuildError, match="non-zero code: 3"):
            client.images.build(
                fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"), rm=True, forcerm=True
            )
        client.close()


class TestContexts:
    """Where a context comes from."""

    def test_standard_input_is_a_dockerfile_or_an_archive(self, daemon: Daemon) -> None:
        """Told apart by what it begins with."""
        done = daemon.cli("build", "-", input="FROM busybox\nRUN echo from stdin\n")
        assert "from stdin" in done.stdout
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
            for name, data in (("d/Dockerfile", b"FROM busybox\nCOPY f /\n"), ("f", b"x")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        daemon.cli("build", "-t", "stdin:1", "-f", "d/Dockerfile", "-", input=buffer.getvalue())
        assert sh(daemon, "stdin:1", "cat /f") == "x"

    def test_a_dockerfile_may_lie_elsewhere(self, daemon: Daemon, tmp_path: Path) -> None:
        """It is not in the context then, and has an ignore file of its own."""
        folder = context(tmp_path / "c", "FROM nothing\n", {"a": "1", "b": "2"})
        other = tmp_path / "Other"
        other.write_text("FROM busybox\nCOPY . /c\n")
        Path(f"{other}.dockerignore").write_text("b\nDockerfile\n")
        daemon.cli("build", "-t", "other:1", "-f", str(other), str(folder))
        assert sh(daemon, "other:1", "ls /c") == "a\n"

    def test_ignored_files_are_not_sent(self, daemon: Daemon, tmp_path: Path) -> None:
        """Not even read: one of them cannot be."""
        files = {"a": "1", "skip/x": "2", "skip/keep": "3", ".dockerignore": "skip\n!skip/keep\n"}
        folder = context(tmp_path / "c", "FROM busybox\nCOPY . /c\n", files)
        daemon.cli("build", "-t", "ignored:1", str(folder))
        assert sh(daemon, "ignored:1", "ls -A /c /c/skip") == (
            "/c:\n.dockerignore\nDockerfile\na\nskip\n\n/c/skip:\nkeep\n"
        )

    def test_urls_are_fetched(self, daemon: Daemon, tmp_path: Path) -> None:
        """By ADD, with a checksum, and as a context."""
        served = {"/dir/file.txt": b"fetched", "/Dockerfile": b"FROM busybox\nRUN echo remote\n"}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = served.get(self.path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.send_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

        with daemon.inside():
            server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            digest = "sha256:3d1edf9a9bbd1cbe7c1a5f4c1f9a3d0b"
            text = f"FROM busybox\nADD {url}/dir/file.txt /got/\nADD {url}/dir/file.txt /named\n"
            image = build(daemon, context(tmp_path / "c", text))
            line = "cat /got/file.txt /named; stat -c ' %a %Y' /named"
            assert sh(daemon, image, line) == "fetchedfetched 600 1700000000\n"
            assert "remote" in daemon.cli("build", f"{url}/Dockerfile").stdout
            for line, words in (
                (f"ADD --checksum={digest} {url}/dir/file.txt /", "digest mismatch"),
                (f"ADD {url}/none /", "status 404"),
            ):
                wrong = context(tmp_path / words.replace(" ", ""), f"FROM busybox\n{line}\n")
                done = daemon.cli("build", str(wrong), check=False)
                assert words in done.stderr
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_a_repository_is_a_context(own_daemon: Daemon, tmp_path: Path) -> None:
    """A branch and a folder of it; an option in the place of a branch is refused."""
    if shutil.which("git") is None:
        pytest.skip("needs git: apt-get install git")
    work = context(tmp_path / "work", "FROM nothing\n")
    context(work / "sub", "FROM busybox\nCOPY . /c\n", {"f": "from the branch"})
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    for step in (
        ("init", "-q", "-b", "side"),
        ("add", "."),
        (*identity, "commit", "-q", "-m", "first"),
    ):
        subprocess.run(["git", *step], cwd=work, env=environment, check=True)
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(work), str(tmp_path / "r.git")],
        env=environment,
        check=True,
    )
    assert own_daemon.process is not None
    port = "19418"
    serve = ["git", "daemon", "--reuseaddr", f"--port={port}", "--export-all", "--listen=127.0.0.1"]
    server = subprocess.Popen(
        ["nsenter", f"--net=/proc/{own_daemon.process.pid}/ns/net", *serve, str(tmp_path)],
        env={
            **environment,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        },
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"git://127.0.0.1:{port}{tmp_path}/r.git"
        deadline = time.monotonic() + 60
        while True:
            done = own_daemon.cli("build", "-t", "git:1", f"{url}#side:sub", check=False)
            if done.returncode == 0:
                break
            assert "refused" in done.stderr, done.stderr
            assert time.monotonic() < deadline
            time.sleep(0.05)  # nothing tells when the server listens
        assert sh(own_daemon, "git:1", "cat /c/f; ls -A /c") == "from the branchDockerfile\nf\n"
        for fragment, message in (
            ("#--upload-pack=touch", "invalid Git context"),
            ("#side:../out", "leads out of the repository"),
            ("#side:none", "there is no folder"),
        ):
            done = own_daemon.cli("build", f"{url}{fragment}", check=False)
            assert done.returncode == 1
            assert message in done.stderr
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def test_a_killed_daemon_leaves_no_half_built_image(own_daemon: Daemon, tmp_path: Path) -> None:
    """Its next start clears away what was under way, and the cache has what was done."""
    text = "FROM busybox\nRUN echo done > /done\nCOPY f /\nRUN echo begun; sleep 1000\n"
    folder = context(tmp_path / "c", text, {"f": "x"})
    words = [str(Path(sys.executable).parent / "pannier"), "build", "-t", "half:1", str(folder)]
    client = subprocess.Popen(
        words,
        env={**os.environ, "PANNIER_HOST": own_daemon.host},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout is not None
    for line in client.stdout:
        if line == b"begun\n":
            break
    own_daemon.kill()
    client.wait()
    client.stdout.close()
    own_daemon.start()
    root = own_daemon.folder / "root"
    assert not list((root / "build" / "contexts").iterdir())
    assert own_daemon.cli("images", "-q", "half:1").stdout == ""
    assert own_daemon.cli("ps", "-aq").stdout == ""
    (folder / "Dockerfile").write_text(text.replace("sleep 1000", "true"))
    said = own_daemon.cli("build", "-t", "half:1", str(folder)).stdout
    assert said.count("Using cache") == 2
    assert sh(own_daemon, "half:1", "cat /done /f") == "done\nx"


def test_a_failed_steps_container_outlives_the_daemon(own_daemon: Daemon, tmp_path: Path) -> None:
    """It is kept to be looked at, unlike that of a step that was under way."""
    folder = context(tmp_path / "c", "FROM busybox\nRUN echo looked > /at; exit 3\n")
    assert own_daemon.cli("build", str(folder), check=False).returncode == 3
    (kept,) = own_daemon.cli("ps", "-aq").stdout.split()
    own_daemon.kill()
    own_daemon.start()
    assert own_daemon.cli("ps", "-aq").stdout.split() == [kept]
    assert own_daemon.cli("diff", kept).stdout == "A /at\n"


def test_builds_leave_nothing_behind(daemon: Daemon, tmp_path: Path) -> None:
    """Neither contexts nor containers nor layers of the builder's own."""
    build(daemon, context(tmp_path / "c", "FROM busybox\nCOPY . /c\nRUN true\n"))
    assert daemon.cli("ps", "-aq", "--filter", "status=running").stdout == ""
    contexts = daemon.folder / "root" / "build" / "contexts"
    deadline = time.monotonic() + 60
    while list(contexts.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # removed in the background, which nothing tells
    layers = daemon.folder / "root" / "overlay" / "containers"
    assert not list(layers.glob("build-*"))


def test_layers_are_the_same_as_when_they_are_unpacked(own_daemon: Daemon, tmp_path: Path) -> None:
    """A driver may take a container's own files as the layer; nobody can tell."""
    text = """\
FROM busybox
RUN mkdir -p /d/e && echo 1 > /d/e/f && chmod 4755 /d/e/f && ln /d/e/f /d/g && mkfifo /p
RUN rm -rf /var && mkdir -p /var/new && rm /etc/group && mv /d /moved && chmod 700 /home
RUN rm /moved/e/f && mkdir /moved/e/f && chown 33:33 /moved && chmod 711 / && touch /.wh.odd
RUN rm -rf /moved/e && mkdir /moved/e && touch -d @1000000000 /moved
COPY . /moved/
"""
    image = build(own_daemon, context(tmp_path / "c", text, {"x/y": "z"}), "-t", "built:1")
    listing = (
        "find / -xdev ! -path '/dev*' ! -path '/etc' -exec stat -c '%n %F %a %u %g %s %Y' {} +"
    )
    ignored = ("/proc", "/sys", "/.dockerenv", "/ ", "/etc/hostname", "/etc/hosts", "/etc/resolv")

    def lines() -> list[str]:
        found = sh(own_daemon, "built:1", f"{listing} | sort").splitlines()
        return [line for line in found if not line.startswith(ignored)]

    before = lines()
    saved = tmp_path / "saved.tar"
    own_daemon.cli("save", "-o", str(saved), "built:1")
    own_daemon.cli("rmi", "built:1")
    own_daemon.cli("image", "prune", "-af")
    own_daemon.cli("load", "-i", str(saved))
    assert own_daemon.cli("images", "-q", "--no-trunc", "built:1").stdout.strip() == image
    assert [line for line in lines() if ".wh." not in line] == [
        line for line in before if ".wh." not in line
    ]
