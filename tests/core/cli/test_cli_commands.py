"""Commands print what the docker client prints, and ask the daemon for no more than they need."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from pannier.cli.commands.cp import split_place
from pannier.cli.commands.df import usage_rows
from pannier.cli.commands.events import event_line
from pannier.cli.commands.ps import ports_text
from pannier.cli.commands.stats import stats_row
from pannier.cli.commands.volume import volume_row
from pannier.cli.references import split_reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEB = {
    "Id": "a" * 64,
    "Names": ["/web", "/other/alias"],
    "Image": "busybox",
    "ImageID": "sha256:" + "b" * 64,
    "Command": "httpd -f -v -p 8080 -h /srv",
    "Created": 0,
    "State": "running",
    "Status": "Up 3 minutes",
    "Ports": [{"PrivatePort": 80, "Type": "tcp"}],
    "Labels": {"x": "y", "a": "b"},
    "Mounts": [{"Type": "volume", "Name": "data", "Driver": "local"}],
    "NetworkSettings": {"Networks": {"bridge": {}}},
}


@pytest.fixture
def listed(daemon: Any) -> Any:
    """Return a daemon with one container, two hours old."""
    daemon.reply("GET", "/containers/json", [{**WEB, "Created": int(time.time()) - 7200}])
    return daemon


def test_ps_is_a_table(cli: Callable[..., Any], listed: Any) -> None:
    """Docker's columns, cut as docker cuts them, from one request."""
    assert cli("ps", "-a").out.splitlines() == [
        (
            "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS         "
            "PORTS     NAMES"
        ),
        (
            'aaaaaaaaaaaa   busybox   "httpd -f -v -p 8080…"   2 hours ago   Up 3 minutes   '
            "80/tcp    web"
        ),
    ]
    assert [one.query for one in listed.requests] == ["all=1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-q"], "a" * 12 + "\n"),
        (["-q", "--no-trunc"], "a" * 64 + "\n"),
        (["--format", '{{.Names}}|{{.Label "x"}}|{{.Networks}}'], "web|y|bridge\n"),
        (["--format", "table {{.ID}}\\t{{.Labels}}"],
         "CONTAINER ID   LABELS\naaaaaaaaaaaa   a=b,x=y\n"),
        (["--format", 'table {{.Names}}\\t{{.Label "com.my-key"}}'],
         "NAMES     my key\nweb       \n"),
    ],
)  # fmt: skip
def test_ps_formats(cli: Callable[..., Any], listed: Any, words: list[str], expected: str) -> None:
    """Quiet, templates, tables of templates."""
    del listed
    assert cli("ps", *words) == (0, expected, "")


def test_ps_as_json(cli: Callable[..., Any], listed: Any) -> None:
    """One object a line, with docker's fields."""
    del listed
    found = json.loads(cli("ps", "--format", "json").out)
    assert found["Names"] == "web"
    assert found["LocalVolumes"] == "1"
    assert found["Mounts"] == "data"
    assert "Label" not in found


def test_filters_are_sent(cli: Callable[..., Any], listed: Any) -> None:
    """``--filter`` values of one key are joined; one without a value is refused."""
    cli("ps", "-n", "3", "-f", "status=exited", "--filter", "status=created")
    assert listed.requests[0].query == (
        "limit=3&filters=%7B%22status%22%3A%20%7B%22exited%22%3A%20true%2C%20%22created%22"
        "%3A%20true%7D%7D"
    )
    assert cli("ps", "-f", "status").status == 125


def test_a_wrong_field_is_named(cli: Callable[..., Any], listed: Any) -> None:
    """A template that asks for what is not there is one line of error."""
    del listed
    outcome = cli("ps", "--format", "{{.Bogus}}")
    assert outcome.status == 1
    assert outcome.err.startswith("Error: template: map has no entry for key 'Bogus'\nhint: ")


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([("", 0, 80), ("", 0, 81), ("", 0, 90)], "80-81/tcp, 90/tcp"),
        ([("0.0.0.0", 80, 80), ("0.0.0.0", 81, 81), ("::", 80, 80)],
         "0.0.0.0:80-81->80-81/tcp, [::]:80->80/tcp"),
        ([("0.0.0.0", 8080, 80), ("", 0, 90)], "90/tcp, 0.0.0.0:8080->80/tcp"),
        ([], ""),
    ],
)  # fmt: skip
def test_ports_are_drawn_together(ports: list[tuple[str, int, int]], expected: str) -> None:
    """Runs of neighbouring ports are one; a port published as another stands alone."""
    given = []
    for address, public, private in ports:
        one: dict[str, Any] = {"PrivatePort": private, "Type": "tcp"}
        if public:
            one.update(IP=address, PublicPort=public)
        given.append(one)
    assert ports_text(given) == expected


def test_several_names_each_have_their_outcome(cli: Callable[..., Any], daemon: Any) -> None:
    """What can be done is done; what cannot is said, and the status is 1."""
    daemon.reply("DELETE", "/containers/a", b"", 204)
    daemon.reply("DELETE", "/containers/b", {"message": "No such container: b"}, 404)
    daemon.reply("DELETE", "/containers/c", b"", 204)
    outcome = cli("rm", "-v", "a", "b", "/c")
    assert outcome == (1, "a\n/c\n", "Error: No such container: b\n")
    assert daemon.requests[0].query == "v=1"


def test_what_is_to_go_in_any_case_may_be_gone(cli: Callable[..., Any], daemon: Any) -> None:
    """``-f`` says that it is not there, and is content; other failures are failures."""
    daemon.reply("DELETE", "/containers/a", b"", 204)
    daemon.reply("DELETE", "/containers/b", {"message": "No such container: b"}, 404)
    daemon.reply("DELETE", "/images/b", {"message": "No such image: b:latest"}, 404)
    daemon.reply("DELETE", "/images/c", {"message": "conflict: in use"}, 409)
    outcome = cli("rm", "-f", "b", "a")
    assert outcome == (0, "a\n", "Error: No such container: b\n")
    assert daemon.requests[0].query == "force=1"
    assert cli("rmi", "-f", "b") == (0, "", "Error: No such image: b:latest\n")
    assert cli("rmi", "-f", "c", "b").status == 1


def test_a_name_is_one_part_of_the_path(cli: Callable[..., Any], daemon: Any) -> None:
    """A name with a slash cannot address something else."""
    assert cli("stop", "../images/x").status == 1
    assert daemon.requests[0].target == "/v1.51/containers/..%2Fimages%2Fx/stop"


def test_inspect_looks_for_every_kind(cli: Callable[..., Any], daemon: Any) -> None:
    """Containers, then images, networks, volumes; each once, and what is missing is said."""
    daemon.reply("GET", "/volumes/data", {"Name": "data", "Scope": "local"})
    outcome = cli("inspect", "data", "none")
    assert outcome.status == 1
    assert json.loads(outcome.out) == [{"Name": "data", "Scope": "local"}]
    assert outcome.err == "Error: No such object: none\n"
    assert daemon.asked()[:4] == [
        "GET /containers/data/json",
        "GET /images/data/json",
        "GET /networks/data",
        "GET /volumes/data",
    ]
    assert cli("inspect", "--type", "volume", "-f", "{{.Scope}}", "data").out == "local\n"
    assert cli("inspect", "--type", "bogus", "data").status == 1


def test_images_are_a_table(cli: Callable[..., Any], daemon: Any) -> None:
    """A row for each tag; without one, <none>."""
    now = int(time.time())
    images = [
        {"Id": "sha256:" + "1" * 64, "Created": now - 90, "Size": 4_256_789,
         "RepoTags": ["busybox:1", "host:5000/x/busybox:2"], "RepoDigests": []},
        {"Id": "sha256:" + "2" * 64, "Created": now - 7200, "Size": 5, "RepoTags": []},
    ]  # fmt: skip
    daemon.reply("GET", "/images/json", images)
    assert cli("images").out.splitlines() == [
        "REPOSITORY            TAG       IMAGE ID       CREATED              SIZE",
        "busybox               1         111111111111   About a minute ago   4.26MB",
        "host:5000/x/busybox   2         111111111111   About a minute ago   4.26MB",
        "<none>                <none>    222222222222   2 hours ago          5B",
    ]
    assert cli("images", "-q", "--no-trunc").out.splitlines()[-1] == "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("busybox", ("busybox", "")),
        ("busybox:1", ("busybox", "1")),
        ("host:5000/busybox", ("host:5000/busybox", "")),
        ("host:5000/a/b:2", ("host:5000/a/b", "2")),
    ],
)
def test_references_are_split(reference: str, parts: tuple[str, str]) -> None:
    """A port is no tag."""
    assert split_reference(reference) == parts


def test_logs_are_separated(cli: Callable[..., Any], daemon: Any, frame: Any) -> None:
    """Stdout and stderr of a container go to ours, from one request."""

    def logs(request: Any) -> None:
        kind = {"Content-Type": "application/vnd.docker.multiplexed-stream"}
        request.answer(200, frame(1, b"out\n") + frame(2, b"err\n"), kind)

    daemon.on("GET", "/containers/web/logs", logs)
    assert cli("logs", "--tail", "5", "-t", "--since", "1700000000", "web") == (
        0,
        "out\n",
        "err\n",
    )
    [request] = daemon.requests
    assert request.query == "stdout=1&stderr=1&timestamps=1&tail=5&since=1700000000"
    assert "failed to parse" in cli("logs", "--since", "yesterday", "web").err


def test_zero_is_the_epoch(cli: Callable[..., Any], daemon: Any) -> None:
    """As docker's client has it: ``--since 0`` asks for everything, ``0s`` is now."""
    daemon.reply("GET", "/events")
    assert cli("events", "--since", "0", "--until", "1700000000") == (0, "", "")
    [request] = daemon.requests
    assert request.query == "since=0&until=1700000000"


def test_a_terminals_logs_are_raw(cli: Callable[..., Any], daemon: Any) -> None:
    """A container with a terminal has one stream, without frames."""
    kind = {"Content-Type": "application/vnd.docker.raw-stream"}
    daemon.on("GET", "/containers/t/logs", lambda one: one.answer(200, b"\x1b[1mx", kind))
    assert cli("logs", "t").out == "\x1b[1mx"


def test_a_saved_archive_appears_whole_or_not_at_all(
    cli: Callable[..., Any], daemon: Any, tmp_path: Path
) -> None:
    """A save that breaks off leaves neither a half file nor the old one changed."""
    target = tmp_path / "out.tar"
    target.write_bytes(b"old")

    def broken(request: Any) -> None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        request.sock.shutdown(2)

    daemon.on("GET", "/images/get", broken)
    assert cli("save", "-o", str(target), "busybox").status == 1
    assert target.read_bytes() == b"old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.tar", "s"]
    daemon.reply("GET", "/images/get", b"whole")
    assert cli("save", "-o", str(target), "busybox").status == 0
    assert target.read_bytes() == b"whole"


def test_load_shows_what_was_loaded(cli: Callable[..., Any], daemon: Any, tmp_path: Path) -> None:
    """The archive is sent as it is; the daemon's messages are shown, its errors raised."""
    (tmp_path / "in.tar").write_bytes(b"tar" * 1000)
    daemon.reply("POST", "/images/load", {"stream": "Loaded image: busybox:latest\n"})
    outcome = cli("load", "-i", str(tmp_path / "in.tar"))
    assert outcome == (0, "Loaded image: busybox:latest\n", "")
    assert daemon.requests[-1].body == b"tar" * 1000
    daemon.reply("POST", "/images/load", {"errorDetail": {"message": "bad tar"}, "error": "x"})
    assert cli("load", "-i", str(tmp_path / "in.tar")) == (1, "", "Error: bad tar\n")
    assert cli("load", "-i", str(tmp_path / "none")).status == 1


def test_prune_asks_first(
    cli: Callable[..., Any], daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``--force`` the answer decides; with it nothing is asked."""
    import io  # noqa: PLC0415 - for two answers
    import sys  # noqa: PLC0415 - as above

    found = {"ContainersDeleted": ["abc"], "SpaceReclaimed": 1_500_000}
    daemon.reply("POST", "/containers/prune", found)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert cli("container", "prune").out.startswith("WARNING! This will remove all stopped")
    assert daemon.requests == []
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert cli("container", "prune").out.endswith("abc\n\nTotal reclaimed space: 1.5MB\n")
    assert cli("container", "prune", "-f").out == (
        "Deleted Containers:\nabc\n\nTotal reclaimed space: 1.5MB\n"
    )


def test_network_create_puts_addresses_into_their_subnets(
    cli: Callable[..., Any], daemon: Any
) -> None:
    """Each range and gateway goes to the subnet that holds it."""
    daemon.reply("POST", "/networks/create", {"Id": "n1", "Warning": ""}, 201)
    words = ["--subnet", "10.1.0.0/16", "--subnet", "fd00::/64", "--gateway", "10.1.0.1",
             "--gateway", "fd00::1", "--ip-range", "10.1.5.0/24", "--internal"]  # fmt: skip
    assert cli("network", "create", *words, "back").out == "n1\n"
    body = daemon.requests[0].json()
    assert body["IPAM"]["Config"] == [
        {"Subnet": "10.1.0.0/16", "IPRange": "10.1.5.0/24", "Gateway": "10.1.0.1"},
        {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
    ]
    assert body["Internal"] is True
    assert body["Driver"] == "bridge"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--gateway 10.2.0.1", "no matching subnet for gateway 10.2.0.1"),
        ("--gateway 10.1.0.300", "no matching subnet for gateway 10.1.0.300"),
        ("--ip-range 10.2.0.0/24", "no matching subnet for range 10.2.0.0/24"),
        ("--aux-address a=10.2.0.1", "no matching subnet for aux-address 10.2.0.1"),
        (
            "--gateway 10.1.0.1 --gateway 10.1.0.2",
            "every ip-range or gateway must have a corresponding subnet",
        ),
        (
            "--subnet fd00::/64 --gateway 10.1.0.1 --gateway 10.1.0.2",
            "cannot configure multiple gateways (10.1.0.1, 10.1.0.2) on 10.1.0.0/16",
        ),
        (
            "--subnet 10.1.4.0/24",
            "multiple overlapping subnet configuration is not supported",
        ),
        ("--subnet 10.300.0.0/24", "invalid subnet: "),
    ],
)
def test_network_create_refuses_addresses_in_dockers_words(
    cli: Callable[..., Any], daemon: Any, words: str, said: str
) -> None:
    """Before the daemon is asked anything."""
    outcome = cli("network", "create", "--subnet", "10.1.0.0/16", *words.split(), "x")
    assert outcome.err.startswith(f"Error: {said}")
    assert outcome.status == 1
    assert daemon.requests == []


def test_network_create_sends_configurations(cli: Callable[..., Any], daemon: Any) -> None:
    """``--config-only``, ``--config-from`` and the scope, for the daemon to judge."""
    daemon.reply("POST", "/networks/create", {"Id": "n1", "Warning": ""}, 201)
    cli("network", "create", "--config-only", "plan")
    cli("network", "create", "--config-from", "plan", "--ingress", "--scope", "swarm", "back")
    plan, back = (request.json() for request in daemon.requests)
    assert plan["ConfigOnly"] is True
    assert (back["ConfigFrom"], back["Ingress"], back["Scope"]) == (
        {"Network": "plan"},
        True,
        "swarm",
    )
    outcome = cli("network", "connect", "--driver-opt", "bogus", "back", "web")
    assert outcome.err.startswith("Error: invalid key/value pair format in driver options")


def test_update_sends_only_what_was_given(cli: Callable[..., Any], daemon: Any) -> None:
    """Limits that were not named stay; naming none is an error."""
    daemon.reply("POST", "/containers/web/update", {"Warnings": None})
    assert cli("update", "-m", "64m", "--restart", "on-failure:3", "web").out == "web\n"
    assert daemon.requests[0].json() == {
        "Memory": 64 << 20,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    }
    assert cli("update", "web").status == 1


def test_events_are_lines() -> None:
    """Time, type, action, id, attributes in order."""
    event = {
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "abc", "Attributes": {"name": "web", "image": "busybox"}},
        "timeNano": 1_700_000_000_123_456_789,
    }
    assert event_line(event).endswith(" container start abc (image=busybox, name=web)")
    assert ".123456789" in event_line(event)


def test_statistics_are_computed_from_two_samples() -> None:
    """CPU as a share of one processor, memory without the droppable cache."""
    before = {"cpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000}}
    now = {
        "id": "a" * 64,
        "name": "/web",
        "cpu_stats": {
            "cpu_usage": {"total_usage": 200},
            "system_cpu_usage": 1400,
            "online_cpus": 2,
        },
        "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"inactive_file": 1 << 20}},
        "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 5}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}]},
        "pids_stats": {"current": 2},
    }
    row = stats_row("web", now, before, whole=False)
    assert row["CPUPerc"] == "50.00%"
    assert row["MemUsage"] == "2MiB / 4MiB"
    assert row["MemPerc"] == "50.00%"
    assert (row["NetIO"], row["BlockIO"], row["PIDs"]) == ("1kB / 5B", "4.1kB / 0B", "2")
    assert stats_row("gone", None, None, whole=False)["CPUPerc"] == "--"


def test_disk_usage_is_summed() -> None:
    """What is in use is not reclaimable."""
    found = {
        "LayersSize": 100,
        "Images": [{"Size": 100, "SharedSize": 0, "Containers": 1}],
        "Containers": [{"State": "running", "SizeRw": 5}, {"State": "exited", "SizeRw": 7}],
        "Volumes": [{"UsageData": {"Size": 9, "RefCount": 0}}],
    }
    rows = {row["Type"]: row for row in usage_rows(found)}
    assert rows["Images"]["Reclaimable"] == "0B (0%)"
    assert (rows["Containers"]["Active"], rows["Containers"]["Reclaimable"]) == ("1", "7B (58%)")
    assert rows["Local Volumes"]["Reclaimable"] == "9B (100%)"
    assert rows["Build Cache"]["Reclaimable"] == "0B"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/a", ("web", "/a")),
        ("web:a:b", ("web", "a:b")),
        ("./a:b", ("", "./a:b")),
        ("/a:b", ("", "/a:b")),
        ("a", ("", "a")),
        ("-", ("", "-")),
    ],
)
def test_places_are_split(text: str, place: tuple[str, str]) -> None:
    """A path with a colon is told from a container by how it starts."""
    assert split_place(text) == place


def test_debug_shows_where_it_failed(cli: Callable[..., Any], daemon: Any) -> None:
    """``--debug`` adds the traceback to the one line."""
    daemon.reply("GET", "/containers/json", {"message": "broken"}, 500)
    assert cli("ps").err == "Error: broken\n"
    assert "Traceback" in cli("--debug", "ps").err


def test_nobody_there(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a daemon at an address that was named: 1, and 125 for run."""
    monkeypatch.setenv("PANNIER_HOST", str(tmp_path / "none"))
    assert cli("ps").status == 1
    outcome = cli("run", "busybox")
    assert outcome.status == 125
    assert outcome.err.startswith("Error: cannot connect to the daemon at unix://")
    version = cli("version")
    assert version.status == 1
    assert version.out.startswith("Client:")


def test_a_volume_whose_size_is_not_known() -> None:
    """Its filesystem did not say; its users are known all the same."""
    volume = {"Name": "far", "Driver": "local", "UsageData": {"Size": -1, "RefCount": 2}}
    row = volume_row(volume)
    assert (row["Links"], row["Size"]) == ("2", "N/A")
