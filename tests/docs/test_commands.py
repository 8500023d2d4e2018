"""The commands in the documentation are run as they stand there, page by page, on a real daemon.

What a page takes for granted is made before: images, files, a registry. Names of what is somewhere
in the world are replaced by those of what stands for it here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import support.terminal
from pannier.config import KINDS, parse
from pannier.plugins import load_plugins
from support.daemon import Daemon, leftovers
from support.fakes import FakeStorage
from support.images import BuiltImage, busybox_image, busybox_layer, docker_archive, image, layer
from support.pages import COMMANDS, PAGES, ROOT, Block, blocks
from support.registry import FaultyRegistry, needs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OTHERS = {
    "docs/how-a-container-works.md": "tests/docs/test_how_a_container_works.py",
    "docs/writing-a-driver.md": "tests/docs/test_writing_guide.py",
}
"""Pages whose commands have a test of their own, which reads them there."""

LANGUAGES = {*COMMANDS, "python", "toml", "text"}

TYPING = Path(support.terminal.__file__)
GIT_PORT = 19419
UDP = (socket.AF_INET, socket.SOCK_DGRAM)


@dataclass(frozen=True)
class Scene:
    """What a page takes for granted.

    :param before: commands that are run first.
    :param files: what is in the folder where the commands are run.
    :param stand_ins: what is put in the place of names of the world, or of what a hand does.
    """

    before: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)


BUILD = """\
FROM busybox AS test
ARG VERSION=1
COPY . /app
RUN --mount=type=secret,id=token true
FROM test
"""

ITS_OWN_FOLDERS = """
printf '[engine]\\nroot = "%s"\\nstate = "%s"\\n' "$PWD/root" "$PWD/state" > pannier.toml
"""

SCENES = {
    "README.md": Scene(
        before="pannier save -o busybox.tar busybox",
        files={"Dockerfile": BUILD},
        stand_ins={
            "registry.example.com": "{registry}",
            "pannier exec -it web sh": "{typing} '# =exit' -- pannier exec -it web sh",
            "/tmp/start.json": "start.json",
            "/run/pannier/pannier.sock": "{socket}",
        },
    ),
    "docs/builds.md": Scene(
        before="""
            git -C repository.git init -q -b main
            git -C repository.git add .
            git -C repository.git -c user.name=n -c user.email=n@example.org commit -q -m first
            git daemon --export-all --listen=127.0.0.1 --port={git} --base-path="$PWD" &
            # Nothing tells when it listens.
            until git ls-remote -q git://127.0.0.1:{git}/repository.git; do sleep 0.05; done
        """,
        files={
            "Dockerfile": BUILD,
            "deploy/Dockerfile": BUILD,
            "token.txt": "secret",
            "repository.git/folder/Dockerfile": BUILD,
        },
        stand_ins={"https://example.org": "git://127.0.0.1:{git}"},
    ),
    "docs/configuration.md": Scene(),
    "docs/conformance.md": Scene(before=ITS_OWN_FOLDERS),
    "docs/containers.md": Scene(
        stand_ins={"udp://logs.example:514": "udp://127.0.0.1:514"},
    ),
    "docs/drivers.md": Scene(),
    "docs/images.md": Scene(
        before="pannier tag busybox app",
        stand_ins={
            "sha256:…": "{digest}",
            "pannier login registry.example:5000": "{typing} 'Username: =jo'"
            " 'Password: =open sesame' -- pannier login {registry}",
            "linux/arm64 busybox": "linux/arm64 {registry}/library/busybox",
            "stars=10 busybox": "stars=10 {registry}/busybox",
            "registry.example:5000": "{registry}",
        },
    ),
    "docs/networks.md": Scene(),
    "docs/volumes.md": Scene(),
}
"""Each page whose commands are run here."""

PRELUDE = """\
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT
lasting=()
{before}
set -x
"""

LASTING = re.compile(r"pannier (logs .*(-f|--follow) |events (?!.*--until ))")
"""Commands that go on until somebody ends them: given some seconds, beside all that follow."""

PAGE = re.compile(r"[\w./{}-]+\.md\b")
"""How a test names a page that it reads: by its path in the repository."""

FINALE = """\
{ set +x; } 2> /dev/null
for process in "${lasting[@]}"; do
  wait "$process" || [ $? = 124 ]
done
"""


def commands_of(page: str) -> list[Block]:
    """Return the blocks of commands of a page."""
    return [block for block in blocks(page) if block.language in COMMANDS]


def run_here(page: str) -> list[Block]:
    """Return those that are run here."""
    return [block for block in commands_of(page) if not (block.run_by or block.unrun)]


def is_known_to(test: Path, block: Block) -> bool:
    """Whether a test reads the page of a block, or has each of the block's commands in it."""
    text = test.read_text(encoding="utf-8") if test.is_file() else ""
    for name in PAGE.findall(text):
        # A part that varies stands for any one folder or file.
        if re.fullmatch(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(name)), block.page):
            return True
    return all(command in text for command in block.commands)


# What there is.


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    """By its language; so none is passed over for want of one."""
    for block in blocks(page):
        directive = block.language.startswith("{")
        assert directive or block.language in LANGUAGES, f"{page}:{block.line}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_no_command_is_left_out(page: str) -> None:
    """It is run here, or by a test that the page names; or the page says why it is not."""
    for block in commands_of(page):
        if block.run_by:
            knows = is_known_to(ROOT / block.run_by, block)
            assert knows, f"{page}:{block.line}: {block.run_by} does not read it"
        elif not block.unrun:
            assert page in SCENES or page in OTHERS, f"{page}:{block.line} is run by no test"
    for test in filter(None, [OTHERS.get(page)]):
        assert f'"{Path(page).name}"' in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("test", "known"),
    [
        ("blocks('docs/page.md')", True),
        ("blocks(f'docs/{name}.md')", True),
        ("pannier run here\npannier ps", True),
        ("pannier run here", False),
        ("blocks('docs/pages/page.md')", False),
        ("blocks('page.md')", False),
    ],
)
def test_a_test_that_runs_a_block_reads_its_page(tmp_path: Path, test: str, *, known: bool) -> None:
    """Or has all commands of the block in it; that it is there is not enough."""
    file = tmp_path / "test_page.py"
    block = Block("docs/page.md", 1, "console", "$ pannier run here\n$ pannier ps\nNAME\n")
    assert not is_known_to(file, block)
    file.write_text(test, encoding="utf-8")
    assert is_known_to(file, block) == known


@pytest.mark.parametrize("page", SCENES)
def test_nothing_stands_for_what_is_not_there(page: str) -> None:
    """Each name that is replaced is one of the page's."""
    text = "".join(block.text for block in run_here(page))
    assert text
    for name in SCENES[page].stand_ins:
        assert name in text


# The place where they are run.


def world() -> list[BuiltImage]:
    """Return the images that pages name: busybox, by many names, some of which do something."""
    server = {"Cmd": ["httpd", "-f", "-h", "/www"], "ExposedPorts": {"80/tcp": {}}}
    idle = {"Cmd": ["sleep", "1d"]}
    site = layer({"www": None, "www/index.html": "hello"})
    return [
        busybox_image(),
        busybox_image(tags=["nginx:latest"], config=server, more_layers=[site]),
        busybox_image(tags=["postgres:latest", "redis:latest"], config=idle),
    ]


def foreign_image() -> BuiltImage:
    """Return one for another platform."""
    return image([busybox_layer()], architecture="arm64")


@dataclass(frozen=True)
class Place:
    """A daemon, and what is beside it.

    :param names: what the names in braces of the scenes mean.
    """

    daemon: Daemon
    images: Path
    names: Mapping[str, str]

    def run(self, page: str, folder: Path) -> str:
        """Run a page's commands in a folder; return what they print."""
        scene = SCENES[page]
        for name, text in scene.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        self.daemon.cli("load", "-i", str(self.images))
        done = subprocess.run(
            # Where the daemon is, and what it would ask of the world.
            [
                "nsenter",
                f"--net=/proc/{self.names['pid']}/ns/net",
                "bash",
                "-c",
                self._script(page),
            ],
            cwd=folder,
            env=self._environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{page}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def _script(self, page: str) -> str:
        scene = SCENES[page]
        lines = [PRELUDE.format(before=scene.before.format_map(self.names))]
        for block in run_here(page):
            lines += (self._here(command, scene) for command in block.commands)
        return "\n".join([*lines, FINALE])

    def _here(self, command: str, scene: Scene) -> str:
        if " docker " in command and shutil.which("docker") is None:
            return ": docker is missing"
        for name, stands in scene.stand_ins.items():
            command = command.replace(name, stands.format_map(self.names))
        if LASTING.match(command):
            return f"timeout -s INT 3 {command} &\nlasting+=($!)"
        return command

    def _environment(self, folder: Path) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DOCKER_", "PANNIER_", "GIT_"))
        }
        return clean | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PANNIER_HOST": self.daemon.host,
            "PANNIER_CONFIG": str(folder / "pannier.toml"),
            "HOME": str(folder),
            "TOKEN": "open sesame",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }

    def tidy(self) -> None:
        """Remove what a page made."""
        if found := self.daemon.cli("ps", "-aq").stdout.split():
            self.daemon.cli("rm", "-f", *found)
        self.daemon.cli("volume", "prune", "-a", "-f")
        self.daemon.cli("network", "prune", "-f")


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a daemon, with a registry and a log server beside it."""
    needs("busybox", "busybox-static")
    needs("git", "git")
    daemon = Daemon()
    try:
        daemon.start()
        assert daemon.process is not None
        images = tmp_path_factory.mktemp("pages") / "images.tar"
        images.write_bytes(docker_archive(world()))
        registry = FaultyRegistry(inside=daemon.inside)
        with daemon.inside():
            server = socket.socket(*UDP)
        with contextlib.closing(registry), server:
            server.bind(("127.0.0.1", 514))
            registry.put(busybox_image(), "latest", "team/app")
            registry.put(foreign_image(), "latest", "library/busybox")
            names = {
                "registry": registry.host,
                "digest": registry.put(busybox_image(), "1.0", "team/app"),
                "socket": str(daemon.socket),
                "pid": str(daemon.process.pid),
                "git": str(GIT_PORT),
                "typing": f"python {TYPING}",
            }
            yield Place(daemon, images, names)
    finally:
        daemon.close()
    assert leftovers(daemon) == []


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    """Give it, with nothing in it that another page has made."""
    yield shared_place
    shared_place.tidy()


@pytest.mark.root
@pytest.mark.parametrize("page", SCENES)
def test_the_commands_run(place: Place, page: str, tmp_path: Path) -> None:
    """One after another, as they stand there; each ends well, and prints the tables it should."""
    printed = place.run(page, tmp_path).splitlines()
    words = [line.split() for line in printed]
    for block in run_here(page):
        for heading in block.headings:
            assert heading.split() in words, f"{page}:{block.line}: {heading}"


# Other examples.


def test_the_readmes_plugin_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found, and supplies the driver of its package."""
    [code] = [block.text for block in blocks("README.md") if block.language == "python"]
    package = ModuleType("my_package.driver")
    package.__dict__["MyStorage"] = FakeStorage
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    module = ModuleType("readme_example")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (row,) = load_plugins([EntryPoint("mine", module.__name__, "pannier")])
    assert (row.driver, row.usable) == (FakeStorage, True)


@pytest.mark.parametrize("page", PAGES)
def test_settings_can_be_read(page: str) -> None:
    """All that is written as TOML; the engine understands what is there for it."""
    for block in blocks(page):
        if block.language == "toml":
            found = tomllib.loads(block.text)
            if found.keys() <= {"engine", "drivers", "registries", "registry"} | set(KINDS):
                parse(block.text)
