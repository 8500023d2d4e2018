"""Lists, removals, prunes and sizes of images: Docker's own daemon is asked the same."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from support.daemon import Daemon, leftovers
from support.dockerd import running_dockerd, why_not
from support.images import BuiltImage, Entry, busybox_archive, docker_archive, image, layer, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.dockerd import Dockerd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "nothing is missing"),
]

_CONTAINER = re.compile(r"container [0-9a-f]{12}")
LAYERS = [layer({f"f{number}": "x" * (1000 * (number + 1))}) for number in range(6)]


def _image(year: int, *layers: int, tags: tuple[str, ...], **labels: str) -> BuiltImage:
    parts = [LAYERS[number] for number in layers]
    created = f"{year}-01-01T00:00:00Z"
    return image(parts, tags=tags, created=created, config={"Labels": labels})


IMAGES = {
    "A": _image(2020, 0, tags=("a:1", "a:2", "z.test/a:1"), k="v", only="a"),
    "B": _image(2021, 0, 1, tags=("b:1",), k="w"),
    "C": _image(2022, 2, tags=("c:1",)),
    "D": _image(2023, 3, tags=(), dang="1"),
    "E": _image(2024, 0, 1, 4, tags=("ns/e:1", "ns/e:2")),
}
FORMAT = "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}} {{.Size}} {{.CreatedAt}}"
DF = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"


class Pair:
    """Our daemon and Docker's, asked the same with Docker's client."""

    def __init__(self, ours: Daemon, theirs: Dockerd) -> None:
        self._ours, self._theirs = ours, theirs

    def run(self, *words: str, data: bytes | None = None) -> list[tuple[int, list[str], str]]:
        """Return what each says: status, output in lines, errors."""
        ours = self._ours.docker(*words, input=data, check=False)
        theirs = self._theirs.docker(*words, data=data, check=False)
        return [
            (ours.returncode, ours.stdout.splitlines(), ours.stderr),
            (theirs.returncode, theirs.stdout.decode().splitlines(), theirs.stderr.decode()),
        ]

    def same(self, line: str, *words: str, ordered: bool = True) -> None:
        """Check that both say the same.

        :param words: further ones, which may have spaces in them.
        """
        asked = [IMAGES[word[1:]].id if word[:1] == "@" else word for word in line.split()]
        (status, out, err), (status2, out2, err2) = self.run(*asked, *words)
        if not ordered:
            out, out2 = sorted(out), sorted(out2)
        errors = [_CONTAINER.sub("container …", text) for text in (err, err2)]
        assert (status, out, errors[0]) == (status2, out2, errors[1]), line

    def reset(self) -> None:
        """Have nothing but the images."""
        for command in ("ps -aq", "images -aq"):
            verb = "rm" if command.startswith("ps") else "rmi"
            for asked in (self._ours, self._theirs):
                # What is another's parent goes after it.
                for _ in range(3):
                    out = asked.docker(*command.split()).stdout
                    text = out if isinstance(out, str) else out.decode()
                    if text:
                        asked.docker(verb, "-f", *sorted(set(text.split())), check=False)
        self.run("load", data=docker_archive(list(IMAGES.values())))

    def states(self) -> None:
        """Check that both have the same now."""
        self.same("images -a --no-trunc --format", FORMAT, ordered=False)
        self.same("ps -a --format", "{{.Names}} {{.Image}}", ordered=False)
        self.same("system df --format", DF)

    def disk_usage(self) -> list[dict[str, Any]]:
        """Return what each says of its disk usage."""
        return [_get(host, "/v1.41/system/df") for host in (self._ours.host, self._theirs.host)]


def _get(host: str, path: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(host.removeprefix("unix://"))
        connection = http.client.HTTPConnection("docker")
        connection.sock = made
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found


@pytest.fixture(scope="module")
def daemons() -> Iterator[Pair]:
    """Return both daemons."""
    daemon = Daemon()
    try:
        daemon.start()
        with running_dockerd() as dockerd:
            yield Pair(daemon, dockerd)
    finally:
        daemon.close()
    assert leftovers(daemon) == []


@pytest.fixture
def pair(daemons: Pair) -> Pair:
    """Return both daemons with the same images, and nothing else."""
    daemons.reset()
    return daemons


def test_lists(pair: Pair) -> None:
    """Every filter of Docker 20.10, alone and with others; names and forms."""
    filters = """
        before=b:1 before=c:1 before=ns/e:1 since=a:1 since=c:1 since=ns/e:2 since=nope before=nope
        label=k label=k=v label=only=a label=nope label=k= label= dangling=true dangling=false
        reference=a reference=a:1 reference=a:* reference=* reference=*:1 reference=*/*
        reference=ns/* reference=ns/e reference=z.test/a reference=z.test/*:1 reference=*/*:*
        reference=docker.io/library/a reference=library/a reference=a?1 reference=[ab]:1
        reference=a:[12] reference=n* reference=ns*
    """
    for one in filters.split():
        pair.same(f"images -a --filter {one} --format", FORMAT, ordered=False)
    pair.same("images -q --filter label=k --filter label=only", ordered=False)
    pair.same("images -q --filter reference=a --filter reference=b", ordered=False)
    for words in (
        "images",
        "images --digests",
        "images -q --no-trunc",
        "images ns/e",
        "images nope",
    ):
        pair.same(words, ordered=False)
    pair.same("history --no-trunc ns/e:1")


@pytest.mark.parametrize(
    "lines",
    [
        ("rmi a:1", "rmi a:2", "rmi z.test/a:1"),
        ("rmi a:1 a:2 b:1", "rmi nope c:1", "rmi -f nope", "rmi @D"),
        ("rmi @A", "rmi -f @A", "rmi @E", "rmi -f @E"),
        ("rmi b:1", "rmi ns/e:1 ns/e:2", "rmi -f @A", "rmi --no-prune c:1"),
        ("rmi c", "rmi docker.io/library/b:1", "tag a:1 c:1", "rmi @A", "rmi library/a:2"),
    ],
)
def test_removals(pair: Pair, lines: tuple[str, ...]) -> None:
    """By name and id, forced or not; layers go with their last image."""
    for line in lines:
        pair.same(line)
    pair.states()


@pytest.mark.parametrize(
    "lines",
    [
        ("rmi c:1", "rmi -f c:1", "image prune -f", "rm used", "image prune -f"),
        ("tag c:1 c:2", "rmi c:1", "rmi c:2", "rmi -f c:2", "rm used", "rmi @C"),
        ("rmi b:1", "commit used kid:1", "rm used", "rmi c:1", "rmi kid:1"),
    ],
)
def test_images_in_use(pair: Pair, lines: tuple[str, ...]) -> None:
    """By a container that is stopped, or by an image that was made from it."""
    pair.run("create", "--name", "used", "--network", "none", "c:1", "x")
    for line in lines:
        if line.startswith("commit"):
            assert [status for status, _, _ in pair.run(*line.split())] == [0, 0]
        elif line != "rmi kid:1":
            pair.same(line, ordered=False)
        else:
            counts = [len(out) for _, out, _ in pair.run(*line.split())]
            assert counts[0] == counts[1]
    pair.states()


@pytest.mark.parametrize(
    "lines",
    [
        ("image prune -f",),
        ("image prune -af",),
        (
            "image prune -af --filter until=2021-06-01T00:00:00",
            "image prune -af --filter until=24h",
        ),
        ("image prune -af --filter label=k=v", "image prune -af --filter label!=only"),
        ("image prune -f --filter label=dang",),
        ("image prune -f --filter label!=dang", "system prune -f", "system prune -af"),
    ],
)
def test_prunes(pair: Pair, lines: tuple[str, ...]) -> None:
    """All, or those of an age or with a label; the same space is gained (in any order)."""
    for line in lines:
        pair.same(line, ordered=False)
    pair.states()


def test_disk_usage_is_right_to_the_byte(pair: Pair) -> None:
    """Of images with links, whiteouts and nodes, of what a container wrote, of volumes."""
    odd = [
        tar(
            [
                *(Entry("d", kind="dir", mode=0o755), Entry("d/a", b"x" * 5000), Entry("e")),
                *(Entry("d/h", kind="hardlink", target="d/a"),),
                *(Entry("d/s", kind="symlink", target="away/from/here"),),
            ]
        ),
        tar([Entry("d/.wh.a"), Entry("d/b", b"y" * 777)]),
        tar([Entry("d/a", b"again"), Entry("fifo", kind="fifo")]),
    ]
    for data in (docker_archive([image(odd, tags=["odd:1"])]), busybox_archive()):
        loaded = pair.run("load", data=data)
        assert loaded[0] == loaded[1]
    script = (
        "head -c 12345 /dev/zero > /v/x; ln /v/x /v/y; ln -s four /v/z; head -c 99 /dev/zero > /w;"
        "ln /w /w2; ln -s six666 /s; mkdir /q; head -c 7 /dev/zero > /q/z; rm /etc/passwd;"
        "dd if=/dev/zero of=/sparse bs=1 count=1 seek=99999 2>/dev/null"
    )
    volumes = ("-v", "v1:/v", "-v", "/anonymous")
    words = ("run", "--name", "wrote", "--network", "none", *volumes, "busybox", "sh", "-c", script)
    assert [status for status, _, _ in pair.run(*words)] == [0, 0]
    pair.run("create", "--name", "wrote-not", "--network", "none", "odd:1", "x")
    ours, theirs = pair.disk_usage()
    assert ours["LayersSize"] == theirs["LayersSize"]
    pair.same("system df --format", DF)
    fields = ("Id", "Size", "SharedSize", "VirtualSize", "Containers")
    assert _chosen(ours["Images"], *fields) == _chosen(theirs["Images"], *fields)
    (wrote,) = [one for one in theirs["Containers"] if one["Names"] == ["/wrote"]]
    (our_own,) = [one for one in ours["Containers"] if one["Names"] == ["/wrote"]]
    for name in ("SizeRw", "SizeRootFs"):
        assert our_own[name] == wrote[name]
    sizes = [
        sorted((one["UsageData"]["Size"], one["UsageData"]["RefCount"]) for one in found["Volumes"])
        for found in (ours, theirs)
    ]
    assert sizes[0] == sizes[1]
    assert sizes[0][-1] == (12345 + len("four"), 1)
    pair.run("rm", "-f", "-v", "wrote", "wrote-not")
    pair.run("volume", "rm", "v1")


def _chosen(items: list[dict[str, Any]], *fields: str) -> list[list[Any]]:
    return sorted([one[name] for name in fields] for one in items)
