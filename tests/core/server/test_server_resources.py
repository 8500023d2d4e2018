from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.network import Subnet
from pannier.engine.model import EndpointOptions
from pannier.server.identity import Identity
from support.api_server import serving
from support.fake_engine import as_engine

if TYPE_CHECKING:
    from pathlib import Path

    from support.api_server import ApiServer
    from support.fake_engine import FakeEngine


def lines(body: bytes) -> list[dict[str, object]]:
    """Return the messages of a stream."""
    return [json.loads(line) for line in body.splitlines()]


class TestImages:
    """Images."""

    def test_list_and_inspect(self, server: ApiServer, engine: FakeEngine) -> None:
        """A listing is short, an inspection whole."""
        (one,) = server.get("/images/json").json
        assert one["RepoTags"] == ["busybox:latest"]
        assert (one["Created"], one["SharedSize"], one["Containers"]) == (1_716_027_630, -1, -1)
        assert one["Labels"] == {"maker": "test"}
        (sized,) = server.get("/images/json?shared-size=1").json
        assert sized["SharedSize"] == 1000
        whole = server.get("/images/busybox/json").json
        assert whole["Id"] == engine.images.image.id
        assert whole["Created"] == "2024-05-18T10:20:30.123456789Z"
        assert whole["Config"]["Cmd"] == ["sh"]
        assert whole["RootFS"]["Layers"] == [engine.images.image.layers[0].diff_id]
        assert whole["Metadata"]["LastTagTime"] == "0001-01-01T00:00:00Z"
        missing = server.get("/images/nope/json")
        assert (missing.status, missing.message) == (404, "No such image: nope:latest")

    def test_older_clients_are_told_of_the_images_container(self, server: ApiServer) -> None:
        """Until API 1.45; and Compose 1, which speaks every API and fails without."""
        assert "ContainerConfig" not in server.get("/v1.45/images/busybox/json").json
        old = server.get("/v1.44/images/busybox/json").json
        compose = {"User-Agent": "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1"}
        first = server.request("GET", "/v1.51/images/busybox/json", headers=compose).json
        for told in (old, first):
            assert told["ContainerConfig"]["Cmd"] == told["Config"]["Cmd"]
            assert told["ContainerConfig"]["Hostname"] == ""

    def test_names_may_have_slashes(self, server: ApiServer) -> None:
        """A repository's path is part of its name, whatever follows it."""
        for path in ("json", "history"):
            assert server.get(f"/v1.41/images/lib/nested/name/{path}").status == 200
        assert server.request("DELETE", "/images/lib/nested/name").status == 200
        assert server.get("/images/lib/nested/other/json").status == 404

    def test_filters(self, server: ApiServer, engine: FakeEngine) -> None:
        """Filters become typed values; the older `filter` still means a reference."""
        server.get('/images/json?all=1&filters={"dangling":["true"],"reference":["busy*"]}')
        _, filters, all = engine.images.calls[-1]
        assert (filters.dangling, filters.references, all) == (True, ("busy*",), True)
        server.get("/images/json?filter=busybox")
        assert engine.images.calls[-1][1].references == ("busybox",)
        bad = server.get('/images/json?filters={"dangling":["bar"]}')
        assert (bad.status, bad.message) == (400, "invalid filter 'dangling=[bar]'")

    def test_history_tag_remove_prune(self, server: ApiServer, engine: FakeEngine) -> None:
        """The small operations."""
        (step,) = server.get("/images/busybox/history").json
        assert (step["CreatedBy"], step["Tags"]) == ("ADD layer", ["busybox:latest"])
        assert server.post("/images/busybox/tag?repo=x&tag=y").status == 201
        assert engine.images.calls[-1] == ("tag", "busybox", "x:y")
        upper = server.post("/images/busybox/tag?repo=X")
        assert upper.status == 400
        assert "must be lowercase" in upper.message
        removed = server.request("DELETE", "/images/busybox?force=1&noprune=1")
        assert removed.json == [
            {"Untagged": "busybox:latest"},
            {"Deleted": engine.images.image.id},
        ]
        assert engine.images.calls[-1] == ("remove", "busybox", True, False)
        pruned = server.post("/images/prune")
        assert pruned.json["SpaceReclaimed"] == 77
        assert engine.images.calls[-1][1].dangling is True
        twice = server.post('/images/prune?filters={"until":["1h","2h"]}')
        assert (twice.status, twice.message) == (400, "more than one until filter specified")
        server.post('/images/prune?filters={"dangling":["false"]}')
        assert engine.images.calls[-1][1].dangling is False

    def test_load(self, server: ApiServer, engine: FakeEngine) -> None:
        """An archive goes to the engine whole, and each image is told of."""
        data = b"tar" * 1_000_000
        answer = server.request(
            "POST", "/images/load", data, headers={"Content-Type": "application/x-tar"}
        )
        assert engine.images.uploads == [data]
        assert lines(answer.body) == [{"stream": "Loaded image: busybox:latest\n"}]

    def test_load_errors(self, server: ApiServer) -> None:
        """Every error is a message, also one before any other: docker-py reads it there."""
        for body, text in (
            (b"broken", "the archive is broken"),
            (b"late", "the archive broke later"),
        ):
            answer = server.request("POST", "/images/load", body)
            assert answer.status == 200
            assert lines(answer.body)[-1] == {"errorDetail": {"message": text}, "error": text}

    def test_save(self, server: ApiServer) -> None:
        """One image by its path, several by parameters; a missing one is an error in time."""
        assert server.get("/images/busybox/get").body == b"busybox" * 100_000
        many = server.get("/images/get?names=busybox&names=busybox:latest")
        assert many.body == b"busybox" * 100_000 + b"busybox:latest" * 100_000
        assert many.headers["Content-Type"] == "application/x-tar"
        assert server.get("/images/get?names=nope").status == 404
        assert server.get("/images/get").status == 400

    def test_import(self, server: ApiServer, engine: FakeEngine) -> None:
        """A root filesystem becomes an image with a name and changes."""
        answer = server.request(
            "POST",
            "/images/create?fromSrc=-&repo=deb&tag=12&message=hi&changes=CMD%20sh&platform=linux/arm64",
            b"root",
        )
        assert lines(answer.body) == [{"status": engine.images.image.id}]
        assert engine.images.uploads == [b"root"]
        request = engine.images.calls[-1][1]
        assert request.name.familiar == "deb:12"
        assert (request.message, request.changes) == ("hi", ["CMD sh"])
        assert str(request.platform) == "linux/arm64"

    def test_commit(self, server: ApiServer, engine: FakeEngine) -> None:
        """A container becomes an image."""
        server.post("/containers/create?name=web", {"Image": "busybox"})
        answer = server.post(
            "/commit?container=web&repo=a/b&tag=c&author=me&comment=why&pause=0"
            "&changes=CMD%20x%0AENV%20a=b",
            {"Env": ["X=y"]},
        )
        assert answer.status == 201
        assert answer.json["Id"].startswith("sha256:")
        options = engine.containers.calls[-1][1]
        assert (options["repository"], options["tag"]) == ("a/b", "c")
        assert (options["author"], options["message"], options["pause"]) == ("me", "why", False)
        assert options["changes"] == ("CMD x", "ENV a=b")
        assert options["config"].env == ("X=y",)
        assert server.post("/commit?container=nope").status == 404
        # What docker 20.10 sends where nothing is to be changed.
        answer = server.request(
            "POST",
            "/commit?container=web",
            b"null",
            headers={"Content-Type": "application/json"},
        )
        assert answer.status == 201

    @pytest.mark.parametrize(
        ("method", "path", "words"),
        [
            ("POST", "/build", "this server has no builder"),
        ],
    )
    def test_what_is_missing_is_named(
        self, server: ApiServer, method: str, path: str, words: str
    ) -> None:
        """501, with what to do instead."""
        answer = server.request(method, path)
        assert (answer.status, answer.message) == (501, words)
        assert answer.json["hint"]


class TestVolumes:
    """Volumes."""

    def test_life(self, server: ApiServer) -> None:
        """Create, look, remove."""
        body = {"Name": "data", "Labels": {"a": "b"}, "DriverOpts": {"type": "tmpfs"}}
        made = server.post("/volumes/create", body)
        assert made.status == 201
        assert made.json == {
            "CreatedAt": "2026-11-18T11:06:40Z",
            "Driver": "local",
            "Labels": {"a": "b"},
            "Mountpoint": "/v/data",
            "Name": "data",
            "Options": {"type": "tmpfs"},
            "Scope": "local",
        }
        assert server.get("/volumes/data").json == made.json
        assert server.get("/volumes").json == {"Volumes": [made.json], "Warnings": None}
        assert server.request("DELETE", "/volumes/data?force=1").status == 204
        gone = server.get("/volumes/data")
        assert (gone.status, gone.message) == (404, "get data: no such volume")

    def test_names(self, server: ApiServer) -> None:
        """No name is an anonymous volume; a malformed one is refused in Docker's words."""
        assert len(server.post("/volumes/create", {}).json["Name"]) == 64
        bad = server.post("/volumes/create", {"Name": "a!"})
        assert bad.status == 400
        assert bad.message.startswith('create a!: "a!" includes invalid characters')
        assert "too short" in server.post("/volumes/create", {"Name": "q"}).message
        assert server.post("/volumes/create").status == 400

    def test_prune_and_filters(self, server: ApiServer, engine: FakeEngine) -> None:
        """Filters are passed, unknown ones refused."""
        server.post("/volumes/create", {"Name": "data"})
        older = server.post('/v1.41/volumes/prune?filters={"all":["1"]}')
        assert (older.status, older.message) == (400, "invalid filter 'all'")
        pruned = server.post('/volumes/prune?filters={"all":["1"]}')
        assert pruned.json == {"VolumesDeleted": ["data"], "SpaceReclaimed": 5}
        server.get('/volumes?filters={"dangling":{"true":true}}')
        assert engine.volumes.calls[-1] == ("list", {"dangling": ("true",)})
        assert server.get('/volumes?filters={"zz":["a"]}').status == 400


class TestNetworks:
    """Networks."""

    def test_inspect_of_another_scope(self, server: ApiServer) -> None:
        """A network of this host is none of a swarm; "verbose" adds nothing to it."""
        id = server.post("/networks/create", {"Name": "lan"}).json["Id"]
        plain = server.get("/networks/lan").json
        assert plain["Id"] == id
        assert server.get("/networks/lan?verbose=1&scope=local").json == plain
        answer = server.get("/networks/lan?scope=swarm")
        assert (answer.status, answer.message) == (404, "network lan not found")

    def test_create_and_inspect(self, server: ApiServer, engine: FakeEngine) -> None:
        """A network has its subnets, labels and members."""
        body = {
            "Name": "lan",
            "CheckDuplicate": True,
            "Internal": True,
            "Labels": {"a": "b"},
            "Options": {"x": "y"},
            "IPAM": {
                "Config": [
                    {
                        "Subnet": "10.9.0.0/24",
                        "IPRange": "10.9.0.128/25",
                        "Gateway": "10.9.0.1",
                        "AuxiliaryAddresses": {"router": "10.9.0.2"},
                    }
                ]
            },
        }
        made = server.post("/networks/create", body)
        assert made.status == 201
        assert made.json == {"Id": engine.networks.get("lan").id, "Warning": ""}
        assert engine.networks.get("lan").subnets == (
            Subnet("10.9.0.0/24", "10.9.0.1", "10.9.0.128/25", ("10.9.0.2",)),
        )
        view = server.get("/networks/lan").json
        assert (view["Internal"], view["Labels"]) == (True, {"a": "b"})
        assert view["IPAM"]["Config"][0]["Gateway"] == "10.9.0.1"
        again = server.post("/networks/create", body)
        assert (again.status, again.message) == (409, "network with name lan already exists")

    def test_members(self, server: ApiServer, running: str) -> None:
        """Who is attached, with which address."""
        member = server.get("/networks/bridge").json["Containers"][running]
        assert (member["Name"], member["IPv4Address"]) == ("web", "172.20.0.2/16")
        assert server.get("/networks").json[0]["Containers"] == {}

    def test_malformed(self, server: ApiServer) -> None:
        """Nothing half understood is created."""
        for body, words in (
            ({}, "invalid network name"),
            ({"Name": " "}, "invalid network name"),
            ({"Name": "n", "IPAM": {"Driver": "odd"}}, 'plugin "odd" not found'),
            ({"Name": "n", "Scope": "swarm"}, "when swarm is not active"),
            ({"Name": "n", "Ingress": True}, "when swarm is not active"),
            ({"Name": "n", "Scope": "global"}, "This node is not a swarm manager."),
            ({"Name": "n", "EnableIPv4": False}, "IPv4 cannot be disabled"),
            ({"Name": "n", "ConfigOnly": True, "Ingress": True}, "network specific fields"),
            ({"Name": "n", "ConfigOnly": True, "Scope": "local"}, "network specific fields"),
        ):
            answer = server.post("/networks/create", body)
            assert answer.status in {400, 403, 404, 501, 503}
            assert words in answer.message

    def test_malformed_addresses(self, server: ApiServer) -> None:
        """In Docker's words; those of an IPv6 that the network does not have may be anything."""
        eight = {"Subnet": "10.0.0.0/8"}
        for config, words in (
            ({"Subnet": "zz"}, "subnet zz: invalid CIDR block notation"),
            ({"Subnet": "10.0.0.0"}, "subnet 10.0.0.0: invalid CIDR block notation"),
            ({"Subnet": "10.0.0.0/40"}, "subnet 10.0.0.0/40: invalid CIDR block notation"),
            ({"Subnet": "10.0.0.1/8"}, "subnet 10.0.0.1/8: it should be 10.0.0.0/8"),
            (
                eight | {"Gateway": "11.0.0.1"},
                "gateway 11.0.0.1: parent subnet 10.0.0.0/8 doesn't contain this address",
            ),
            (eight | {"Gateway": "x"}, "gateway x: invalid address"),
            (eight | {"Gateway": "::1"}, "gateway ::1: parent subnet is an IPv4 block"),
            (eight | {"IPRange": "::/64"}, "ip-range ::/64: parent subnet is an IPv4 block"),
            (eight | {"IPRange": "10.0.0.1"}, "ip-range 10.0.0.1: invalid CIDR block notation"),
            (
                eight | {"IPRange": "8.0.0.0/7"},
                "ip-range 8.0.0.0/7: CIDR block is bigger than its parent subnet 10.0.0.0/8",
            ),
            (
                eight | {"IPRange": "11.0.0.0/8"},
                "ip-range 11.0.0.0/8: parent subnet 10.0.0.0/8 doesn't contain ip-range",
            ),
            (
                eight | {"AuxiliaryAddresses": {"router": "11.0.0.9"}},
                "auxiliary address router: parent subnet 10.0.0.0/8 doesn't contain this address",
            ),
        ):
            answer = server.post("/networks/create", {"Name": "n", "IPAM": {"Config": [config]}})
            assert answer.status == 400
            assert answer.message == f"invalid network config:\ninvalid {words}"
        unused = {"Subnet": "fd00:1::1/64", "Gateway": "fd00:2::1"}
        answer = server.post("/networks/create", {"Name": "n", "IPAM": {"Config": [unused]}})
        assert answer.status == 201
        assert answer.json["Warning"] == (
            "The subnet fd00:1::1/64 is not used: the network has no IPv6."
        )

    def test_connect_and_disconnect(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """What is asked of the endpoint reaches the engine."""
        assert running
        endpoint = {
            "IPAMConfig": {"IPv4Address": "172.20.0.9"},
            "Aliases": ["db"],
            "MacAddress": "02-42-AC-14-00-09",
        }
        connected = server.post(
            "/networks/bridge/connect", {"Container": "web", "EndpointConfig": endpoint}
        )
        assert (connected.status, connected.body) == (200, b"")
        assert engine.networks.calls[-1] == (
            "connect",
            "bridge",
            "web",
            EndpointOptions("172.20.0.9", mac="02:42:ac:14:00:09", aliases=("db",)),
        )
        server.post("/networks/bridge/disconnect", {"Container": "web", "Force": True})
        assert engine.networks.calls[-1] == ("disconnect", "bridge", "web", True)
        assert server.post("/networks/bridge/connect", {}).status == 400
        missing = server.post("/networks/bridge/connect", {"Container": "nope"})
        assert (missing.status, missing.message) == (404, "No such container: nope")

    def test_remove_and_prune(self, server: ApiServer) -> None:
        """The predefined ones stay."""
        kept = server.request("DELETE", "/networks/bridge")
        assert (kept.status, kept.message) == (
            403,
            "bridge is a pre-defined network and cannot be removed",
        )
        assert server.request("DELETE", "/networks/nope").status == 404
        assert server.post("/networks/prune").json == {"NetworksDeleted": ["unused"]}


class TestSystem:
    """The engine itself."""

    def test_experimental_where_it_is_configured(self, engine: FakeEngine, tmp_path: Path) -> None:
        """Headers, version and info say so: older clients look at one or the other."""
        with serving(as_engine(engine), tmp_path, identity=Identity(experimental=True)) as server:
            assert server.get("/_ping").headers["Docker-Experimental"] == "true"
            (component,) = server.get("/version").json["Components"]
            assert component["Details"]["Experimental"] == "true"
            assert server.get("/info").json["ExperimentalBuild"] is True

    def test_ping(self, server: ApiServer) -> None:
        """A ping tells the version in its headers; HEAD does, too."""
        answer = server.get("/_ping")
        assert (answer.status, answer.body) == (200, b"OK")
        head = server.request("HEAD", "/_ping")
        assert (head.status, head.body) == (200, b"")
        for headers in (answer.headers, head.headers):
            assert headers["Api-Version"] == "1.51"
            assert headers["Docker-Experimental"] == "false"
            assert headers["Ostype"] == "linux"
            assert headers["Builder-Version"] == "1"
            assert headers["Server"].startswith("Pannier/")
            assert "no-cache" in headers["Cache-Control"]

    def test_version_and_info(self, server: ApiServer) -> None:
        """They are honest about what this engine is."""
        version = server.get("/version").json
        assert version["Platform"] == {"Name": "Pannier"}
        assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.51", "1.24")
        info = server.get("/info").json
        assert (info["Driver"], info["CgroupVersion"], info["NCPU"]) == ("overlay", "1", 2)
        assert (info["MemoryLimit"], info["PidsLimit"], info["CPUSet"]) == (True, True, True)
        assert info["Swarm"]["LocalNodeState"] == "inactive"

    def test_disk_usage(self, server: ApiServer) -> None:
        """What everything takes, or only the kinds asked for."""
        server.post("/containers/create?name=web", {"Image": "busybox"})
        server.post("/volumes/create", {"Name": "data"})
        view = server.get("/system/df").json
        assert view["LayersSize"] == 2_000_000
        assert view["Images"][0]["Containers"] == 1
        assert (view["Containers"][0]["SizeRw"], view["Containers"][0]["SizeRootFs"]) == (1, 2)
        assert view["Volumes"][0]["UsageData"] == {"Size": 100, "RefCount": 1}
        assert view["BuildCache"] == []
        assert set(server.get("/system/df?type=volume").json) == {"Volumes"}
        assert set(server.get("/system/df?type=container").json) == {"Containers"}
        assert server.get("/system/df?type=odd").status == 400

    def test_events(self, server: ApiServer, engine: FakeEngine) -> None:
        """Past events are replayed; those to come follow as they happen."""
        server.post("/containers/create?name=web", {"Image": "busybox"})
        answer = server.get("/events?since=1&until=2")
        assert answer.body == b""
        with server.connect() as client:
            client.sendall(b"GET /events?since=1 HTTP/1.0\r\nHost: d\r\n\r\n")
            reader = client.makefile("rb")
            while reader.readline() != b"\r\n":
                pass
            first = json.loads(reader.readline())
            assert (first["Type"], first["Action"]) == ("container", "create")
            assert (first["status"], first["from"]) == ("create", "busybox")
            assert first["Actor"]["Attributes"]["name"] == "web"
            assert first["timeNano"] // 10**9 == first["time"]
            server.call(engine.publish, "volume", "create", "data", {"driver": "local"})
            second = json.loads(reader.readline())
            assert (second["Type"], second["Actor"]["ID"]) == ("volume", "data")
            assert "status" not in second
            reader.close()
        # A filter of tomorrow is no error, as with Docker.
        assert server.get('/events?since=1&until=2&filters={"zz":["x"]}').status == 200

    def test_events_end_with_the_client(self, server: ApiServer, engine: FakeEngine) -> None:
        """A listener that has gone is forgotten, though nothing happens."""
        with server.connect() as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
            assert len(engine.events._listeners) == 1
        for _ in range(500):
            if not engine.events._listeners:
                break
            server.get("/_ping")
        assert not engine.events._listeners


class TestVersionsAndPaths:
    """Which paths there are."""

    def test_prefixes(self, server: ApiServer) -> None:
        """With and without a version; too old and too new ones are refused in Docker's words."""
        for version in ("", "/v1.24", "/v1.41", "/v1.51"):
            assert server.get(f"{version}/version").status == 200
        new = server.get("/v1.52/version")
        assert (new.status, new.message) == (
            400,
            "client version 1.52 is too new. Maximum supported API version is 1.51",
        )
        old = server.get("/v1.23/version")
        assert (old.status, old.message) == (
            400,
            (
                "client version 1.23 is too old. Minimum supported API version is 1.24, please "
                "upgrade your client to a newer version"
            ),
        )

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/nope"),
            ("GET", "/v1.41/nope"),
            ("PUT", "/containers/json"),
            ("POST", "/_ping"),
            ("GET", "/vfoo/info"),
            ("DELETE", "/version"),
            ("GET", "/"),
            ("GET", "/v1.41"),
            ("GET", "/containers//json/x"),
            ("GET", "/containers/a/b/json"),
            ("DELETE", "/containers/"),
        ],
    )
    def test_unknown_paths(self, server: ApiServer, method: str, path: str) -> None:
        """Docker's answer to what is no operation."""
        answer = server.request(method, path)
        assert (answer.status, answer.json) == (404, {"message": "page not found"})
        assert answer.headers["Api-Version"] == "1.51"

    def test_names_with_a_slash_before_them(self, server: ApiServer) -> None:
        """Docker shows names as `/web`, and takes them so."""
        server.post("/containers/create?name=/web", {"Image": "busybox"})
        assert server.get("/containers//web/json").json["Name"] == "/web"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/swarm"),
            ("GET", "/nodes"),
            ("GET", "/nodes/x"),
            ("GET", "/services"),
            ("GET", "/services/x/logs"),
            ("POST", "/services/create"),
            ("GET", "/tasks"),
            ("GET", "/secrets"),
            ("POST", "/secrets/create"),
            ("DELETE", "/secrets/x"),
            ("POST", "/configs/x/update"),
            ("GET", "/swarm/unlockkey"),
        ],
    )
    def test_swarm(self, server: ApiServer, method: str, path: str) -> None:
        """What needs a swarm has Docker's answer of a host without one."""
        answer = server.request(method, path)
        assert answer.status == 503
        assert answer.message.startswith("This node is not a swarm manager.")

    def test_swarm_and_plugins(self, server: ApiServer) -> None:
        """Leaving what one is not in, and plugins that are not there."""
        assert server.post("/swarm/leave").message == "This node is not part of a swarm"
        assert server.get("/plugins").json == []
        missing = server.get("/plugins/x/y/json")
        assert (missing.status, missing.message) == (404, 'plugin "x/y" not found')
        assert server.post("/swarm/init", {}).status == 501
        assert server.post("/plugins/pull").status == 501


class TestBodies:
    """Request bodies are whole and well-formed, or refused as a whole."""

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "got EOF while reading request body"),
            (b"  \n", "got EOF while reading request body"),
            (b"{", "invalid JSON"),
            (b'{"Image":"busybox"} {}', "invalid JSON"),
            (b"[]", "an object is expected"),
            (b'"x"', "an object is expected"),
            (b'{"Image":"busybox","Image":"other"}', "'Image' is given twice"),
            (b'{"image":"busybox","IMAGE":"other","x":1}', "is given twice"),
            (b'{"Image":NaN}', "NaN is no JSON value"),
            (b'{"Image":"\xff"}', "it is not UTF-8"),
            (b'{"Image":"\\ud800"}', "not valid Unicode"),
            (b'{"Image":"a\\u0000b"}', "NUL character"),
            (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
            (b'{"Image":5}', "Image must be a string, not a number"),
            (b'{"HostConfig":[]}', "HostConfig must be an object, not an array"),
            (
                b'{"Image":"busybox","HostConfig":{"Memory":"1"}}',
                "HostConfig.Memory must be a whole number, not a string",
            ),
            (
                b'{"Image":"busybox","HostConfig":{"Memory":%d}}' % (1 << 70),
                "does not fit 64 bits",
            ),
            (b'{"Image":"busybox","HostConfig":{"Memory":' + b"9" * 5000 + b"}}", "invalid JSON"),
            (b"{}", "config cannot be empty"),
            (b"null", "config cannot be empty"),  # as Go takes it
        ],
    )
    def test_malformed(
        self, server: ApiServer, engine: FakeEngine, body: bytes, words: str
    ) -> None:
        """The message says what is wrong; nothing is created."""
        answer = server.request(
            "POST", "/containers/create", body, headers={"Content-Type": "application/json"}
        )
        assert answer.status == 400
        assert words in answer.message
        assert engine.containers.known == {}

    def test_too_large(self, server: ApiServer, engine: FakeEngine) -> None:
        """An announced length is enough; without one, what is read decides."""
        with server.connect() as client:
            client.sendall(
                b"POST /containers/create HTTP/1.1\r\nHost: d\r\n"
                b"Content-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n{"
            )
            assert client.recv(65536).startswith(b"HTTP/1.1 413")
        with server.connect() as client:
            client.sendall(
                b"POST /containers/create HTTP/1.1\r\nHost: d\r\n"
                b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
            for _ in range(5):
                client.sendall(piece)
            assert client.recv(65536).startswith(b"HTTP/1.1 413")
        assert engine.containers.known == {}

    def test_cut_short(self, server: ApiServer, engine: FakeEngine) -> None:
        """A body that ends before its length is no body, though what came would parse."""
        body = b'{"Image":"busybox"}'
        with server.connect() as client:
            client.sendall(
                b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n" + body
            )
        assert server.get("/_ping").status == 200
        assert engine.containers.known == {}

    def test_content_type(self, server: ApiServer, engine: FakeEngine) -> None:
        """What any web page can send, a form's types or none at all, is refused."""
        for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
            answer = server.request(
                "POST",
                "/containers/create",
                b'{"Image":"busybox"}',
                headers={"Content-Type": kind} if kind else {},
            )
            assert answer.status == 400
            assert "unsupported Content-Type" in answer.message
        assert engine.containers.known == {}

    def test_null_and_case(self, server: ApiServer) -> None:
        """Null is absent, and keys are matched without regard to case, as Go does."""
        answer = server.post(
            "/containers/create", {"image": "busybox", "HostConfig": None, "Env": None}
        )
        assert answer.status == 201
