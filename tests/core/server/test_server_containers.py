from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING

from pannier.errors import DriverError, StartFailed

if TYPE_CHECKING:
    from support.api_server import ApiServer
    from support.fake_engine import FakeEngine


def create(server: ApiServer, name: str = "web", **body: object) -> str:
    """Create a container and return its id."""
    answer = server.post(f"/containers/create?name={name}", {"Image": "busybox", **body})
    assert answer.status == 201, answer.body
    id = answer.json["Id"]
    assert isinstance(id, str)
    return id


class TestCreateAndInspect:
    """Creating a container and looking at it."""

    def test_create_answers_with_id_and_warnings(self, server: ApiServer) -> None:
        """Warnings are a list even where there are none."""
        answer = server.post("/containers/create", {"Image": "busybox"})
        assert answer.status == 201
        assert len(answer.json["Id"]) == 64
        assert answer.json["Warnings"] == []
        warned = server.post(
            "/containers/create", {"Image": "busybox", "HostConfig": {"Privileged": True}}
        )
        assert warned.json["Warnings"] == ["a warning"]

    def test_what_older_clients_look_for(self, server: ApiServer) -> None:
        """The short id among the aliases, and the address that was asked for, written usually."""
        lan = {"lan": {"Aliases": ["db"]}}
        id = create(
            server,
            MacAddress="0242.AC11.0007",
            HostConfig={"NetworkMode": "lan"},
            NetworkingConfig={"EndpointsConfig": lan},
        )
        found = {
            version: server.get(f"/{version}/containers/{id}/json").json
            for version in ("v1.44", "v1.45")
        }
        aliases = {
            version: one["NetworkSettings"]["Networks"]["lan"]["Aliases"]
            for version, one in found.items()
        }
        assert aliases == {"v1.44": ["db", id[:12]], "v1.45": ["db"]}
        assert found["v1.44"]["Config"]["MacAddress"] == "02:42:ac:11:00:07"

    def test_inspect_shows_what_was_asked(self, server: ApiServer) -> None:
        """Every option comes back under the name that it was given by."""
        host = {
            "Binds": ["/tmp:/x:ro", "data:/y"],
            "Mounts": [{"Type": "volume", "Source": "vol", "Target": "/m", "ReadOnly": True}],
            "Tmpfs": {"/t": "size=1m,mode=700"},
            "NetworkMode": "bridge",
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "CapAdd": ["net_admin"],
            "CapDrop": ["ALL"],
            "Memory": 1 << 28,
            "NanoCpus": 500_000_000,
            "PidsLimit": 10,
            "ShmSize": 1 << 20,
            "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/n"}],
            "DeviceCgroupRules": ["c 1:* rw"],
            "Sysctls": {"net.ipv4.ip_forward": "1"},
            "Init": True,
            "VolumeDriver": "local",
            "Isolation": "default",
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges"],
            "Dns": ["10.0.0.1"],
            "ExtraHosts": ["db:10.0.0.2"],
            "GroupAdd": ["audio"],
            "PidMode": "host",
            "IpcMode": "shareable",
            "OomScoreAdj": 100,
        }
        id = create(
            server,
            Cmd=["sleep", "1"],
            Env=["A=b"],
            Labels={"k": "v"},
            User="1:2",
            WorkingDir="/srv",
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGINT",
            StopTimeout=3,
            Tty=True,
            Healthcheck={"Test": ["CMD", "true"], "Interval": 2_000_000},
            HostConfig=host,
        )
        view = server.get(f"/containers/{id[:12]}/json").json
        shown = view["HostConfig"]
        expected = host | {
            "Mounts": [{"Type": "volume", "Source": "vol", "Target": "/m", "ReadOnly": True}],
            "Devices": [
                {
                    "PathOnHost": "/dev/null",
                    "PathInContainer": "/dev/n",
                    "CgroupPermissions": "rwm",
                }
            ],
        }
        assert {key: shown[key] for key in expected} == expected
        config = view["Config"]
        assert config["Cmd"] == ["sleep", "1"]
        assert config["Env"] == ["A=b", "PATH=/bin"]
        assert config["Labels"] == {"k": "v"}
        assert config["ExposedPorts"] == {"80/tcp": {}}
        assert (config["StopSignal"], config["StopTimeout"], config["Tty"]) == ("SIGINT", 3, True)
        assert config["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 2_000_000}
        assert view["Name"] == "/web"
        assert (view["Path"], view["Args"]) == ("sleep", ["1"])
        assert view["State"]["Status"] == "created"
        assert view["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
        assert view["GraphDriver"]["Data"] == {"UpperDir": f"/upper/{id}"}

    def test_a_rootfs_takes_the_place_of_an_image(
        self, server: ApiServer, engine: FakeEngine
    ) -> None:
        """The extension's field reaches the engine; it must be an absolute path."""
        answer = server.post("/containers/create?name=root", {"Rootfs": "/srv/root"})
        assert answer.status == 201
        assert engine.containers.get("root").rootfs == "/srv/root"
        relative = server.post("/containers/create", {"Rootfs": "srv"})
        assert relative.status == 400
        assert "absolute path" in relative.message

    def test_errors_have_dockers_words_and_a_hint(self, server: ApiServer) -> None:
        """The message is Docker's; what to do stands beside it."""
        missing = server.post("/containers/create", {"Image": "nope"})
        assert (missing.status, missing.json) == (
            404,
            {"message": "No such image: nope:latest", "hint": "load it"},
        )
        id = create(server)
        taken = server.post("/containers/create?name=web", {"Image": "busybox"})
        assert taken.status == 409
        assert taken.message == (
            f'Conflict. The container name "/web" is already in use by container "{id}". You have '
            "to remove (or rename) that container to be able to reuse that name."
        )
        assert server.get("/containers/nope/json").message == "No such container: nope"

    def test_a_running_container_shows_its_network(self, server: ApiServer) -> None:
        """Addresses and published ports appear with the start, and in the older fields too."""
        create(
            server,
            ExposedPorts={"80/tcp": {}, "81/tcp": {}},
            HostConfig={"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
        )
        server.post("/containers/web/start")
        settings = server.get("/containers/web/json").json["NetworkSettings"]
        assert settings["Ports"] == {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
            "81/tcp": None,
        }
        assert settings["IPAddress"] == "172.20.0.2"
        asked = {"bridge": {"MacAddress": "02:42:ac:14:00:09"}}
        create(server, "other", NetworkingConfig={"EndpointsConfig": asked})
        networks = server.get("/containers/other/json").json["NetworkSettings"]["Networks"]
        # Told before there is an endpoint, too.
        assert networks["bridge"]["MacAddress"] == "02:42:ac:14:00:09"
        assert settings["Networks"]["bridge"]["Gateway"] == "172.20.0.1"

    def test_sizes_only_when_asked(self, server: ApiServer) -> None:
        """Measuring costs time."""
        create(server)
        assert "SizeRw" not in server.get("/containers/web/json").json
        sized = server.get("/containers/web/json?size=1").json
        assert (sized["SizeRw"], sized["SizeRootFs"]) == (123, 456)


class TestList:
    """Listing containers."""

    def test_summary(self, server: ApiServer) -> None:
        """A listing has what `docker ps` shows."""
        id = create(
            server,
            Cmd=["sh", "-c", "sleep 1"],
            Labels={"a": "b"},
            HostConfig={"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
        )
        assert server.get("/containers/json").json == []
        server.post("/containers/web/start")
        (one,) = server.get("/containers/json?size=1").json
        assert one["Id"] == id
        assert one["Names"] == ["/web"]
        assert one["Command"] == "sh -c 'sleep 1'"
        assert one["Ports"] == [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
        ]
        assert one["State"] == "running"
        assert one["Status"] == "Up Less than a second"
        assert one["HostConfig"] == {"NetworkMode": "default"}
        assert (one["SizeRw"], one["SizeRootFs"]) == (123, 456)
        assert one["Labels"] == {"a": "b"}

    def test_names_by_links(self, server: ApiServer, engine: FakeEngine) -> None:
        """They follow a container's own; a link that goes is seen at once."""
        id = create(server, "db")
        for linked in (("/web/store", "/other/db"), ()):
            engine.containers.linked = {id: linked}
            (one,) = server.get("/containers/json?all=1").json
            assert one["Names"] == ["/db", *linked]

    def test_changes_are_seen_at_once(self, server: ApiServer) -> None:
        """What is kept of a container's JSON is not used once it has changed."""
        create(server)
        states = []
        for path in ("start", "pause", "unpause", "stop"):
            server.post(f"/containers/web/{path}")
            (one,) = server.get("/containers/json?all=1").json
            states.append((one["State"], one["Status"].split()[0]))
        assert states == [
            ("running", "Up"),
            ("paused", "Up"),
            ("running", "Up"),
            ("exited", "Exited"),
        ]
        server.post("/containers/web/rename?name=other")
        assert server.get("/containers/json?all=1").json[0]["Names"] == ["/other"]

    def test_filters_reach_the_engine(self, server: ApiServer, engine: FakeEngine) -> None:
        """Both forms of filters are understood; unknown names and values are refused."""
        create(server)
        for filters in ('{"name":["web"]}', '{"name":{"web":true}}'):
            answer = server.get(f"/containers/json?all=1&limit=5&filters={filters}")
            assert [one["Names"] for one in answer.json] == [["/web"]]
            query = engine.containers.calls[-1][1]
            assert (query.all, query.limit) == (True, 5)
            assert query.filters == {"name": ("web",)}
        for filters, message in (
            ('{"foo":["x"]}', "invalid filter 'foo'"),
            ('{"status":["zz"]}', "invalid filter 'status=zz'"),
            ('{"exited":["zz"]}', "invalid filter 'exited=zz'"),
            ("zz", "invalid filter: 'zz' is not JSON"),
            ('{"name":"web"}', "invalid filter 'name': an array of strings is expected"),
            ("[1]", "invalid filter: an object is expected"),
        ):
            answer = server.get(f"/containers/json?filters={filters}")
            assert (answer.status, answer.message) == (400, message)
        assert server.get("/containers/json?limit=a").status == 400


class TestLifecycle:
    """Starting, stopping and what is between."""

    def test_repeated_start_and_stop_are_not_modified(self, server: ApiServer) -> None:
        """304 has no body."""
        create(server)
        assert server.post("/containers/web/start").status == 204
        again = server.post("/containers/web/start")
        assert (again.status, again.body) == (304, b"")
        assert server.post("/containers/web/stop").status == 204
        assert server.post("/containers/web/stop").status == 304

    def test_parameters_reach_the_engine(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """Timeouts and signals are passed as given."""
        server.post("/containers/web/stop?t=3&signal=SIGINT")
        server.post("/containers/web/restart?t=-1")
        server.post("/containers/web/kill?signal=9")
        assert ("stop", running, 3, "SIGINT") in engine.containers.calls
        assert ("restart", running, -1, None) in engine.containers.calls
        assert ("kill", "9") in engine.containers.calls
        missing = server.post("/containers/nope/kill")
        words = "cannot kill container: nope: No such container: nope"
        assert (missing.status, missing.message) == (404, words)

    def test_malformed_parameters_are_refused(self, server: ApiServer, running: str) -> None:
        """Nothing is stopped because of a number or signal that is none."""
        assert running
        for path in (
            *("stop?t=abc", "kill?signal=FOO", "stop?signal=NOPE", "restart?t=1.5"),
            *("resize", "resize?h=5", "resize?w=5&h=", "resize?h=-1&w=1"),
        ):
            answer = server.post(f"/containers/web/{path}")
            assert answer.status == 400
        assert server.get("/containers/web/json").json["State"]["Running"] is True

    def test_a_start_takes_no_configuration(self, server: ApiServer, engine: FakeEngine) -> None:
        """A body, which had a meaning once, is refused unless nothing is in it."""
        create(server)
        for body in ({"Binds": ["/:/x"]}, b" " * 8):
            refused = server.post("/containers/web/start", body)
            assert refused.status == 400
            assert refused.message.startswith("starting container with non-empty request body")
        assert not engine.containers.get("web").state.running
        assert server.post("/containers/web/start", {}).status == 204

    def test_start_failures_carry_the_words_clients_look_for(
        self, server: ApiServer, engine: FakeEngine
    ) -> None:
        """`docker run` finds its exit status 127 or 126 in the message."""
        create(server)
        for number, message, words in (
            (2, 'exec: "foo": executable file not found in $PATH', "executable file not found"),
            (2, 'exec: "/foo"', "no such file or directory"),
            (13, 'exec: "/etc/passwd"', "permission denied"),
        ):
            engine.containers.start_error = StartFailed(message, errno=number)
            answer = server.post("/containers/web/start")
            assert answer.status == 400
            assert answer.message.startswith(
                "failed to create task for container: unable to start container process: exec:"
            )
            assert words in answer.message
            assert answer.message.endswith(": unknown")

    def test_the_unforeseen_is_told_without_detail(
        self, server: ApiServer, engine: FakeEngine
    ) -> None:
        """A client sees no traceback; a driver's own error is told as it is."""
        create(server)
        engine.containers.start_error = ValueError("secret detail")
        answer = server.post("/containers/web/start")
        assert (answer.status, answer.message) == (500, "internal error; see the log")
        engine.containers.start_error = DriverError("mount: no space left", hint="free some")
        answer = server.post("/containers/web/start")
        assert (answer.status, answer.json) == (
            500,
            {"message": "mount: no space left", "hint": "free some"},
        )

    def test_wait_sends_its_head_at_once(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """A client knows that its wait is registered before the container ends."""
        with server.connect() as client:
            client.sendall(
                b"POST /containers/web/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\n\r\n"
            )
            head = client.recv(65536)
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert b"chunked" in head
            server.call(engine.containers.finish, running, 7)
            rest = client.recv(65536)
            while b"0\r\n\r\n" not in rest:
                rest += client.recv(65536)
            assert b'{"StatusCode":7}' in rest

    def test_wait_for_what_has_ended(self, server: ApiServer) -> None:
        """The answer is there at once; an unknown condition is refused."""
        create(server)
        answer = server.post("/containers/web/wait")
        assert (answer.status, answer.json) == (200, {"StatusCode": 0})
        assert server.post("/containers/web/wait?condition=foo").status == 400
        assert server.post("/containers/nope/wait").status == 404

    def test_rename_update_remove(self, server: ApiServer, engine: FakeEngine) -> None:
        """The small changes, and their refusals."""
        create(server)
        assert server.post("/containers/web/rename?name=new").status == 204
        assert server.post("/containers/new/rename").status == 400
        assert server.post("/containers/new/rename?name=a!").status == 400
        updated = server.post(
            "/containers/new/update",
            {"Memory": 1 << 28, "CpuShares": 512, "RestartPolicy": {"Name": "always"}},
        )
        assert updated.json == {"Warnings": []}
        _, limits, restart = engine.containers.calls[-1]
        assert (limits.memory, limits.cpu_shares, restart.name) == (1 << 28, 512, "always")
        server.post("/containers/new/update", {"RestartPolicy": {"Name": ""}})
        assert engine.containers.calls[-1][2] is None
        assert server.request("DELETE", "/containers/new/alias?link=1").status == 204
        assert engine.containers.calls[-1] == ("remove_link", "new/alias")
        assert server.request("DELETE", "/containers/new/alias").status == 404
        assert server.request("DELETE", "/containers/new?force=1&v=1").status == 204
        assert engine.containers.calls[-1][2:] == (True, True)
        assert server.request("DELETE", "/containers/new").status == 404

    def test_a_vanished_client_leaves_no_half_done_change(
        self, server: ApiServer, engine: FakeEngine
    ) -> None:
        """What was begun for a client that has gone is finished."""
        import asyncio  # noqa: PLC0415

        create(server)
        gate = server.call(asyncio.Event)
        engine.containers.gate = gate
        with server.connect() as client:
            client.sendall(b"POST /containers/web/start HTTP/1.1\r\nHost: d\r\n\r\n")
            deadline = threading.Event()
            while not any(
                task.get_coro().__name__ == "_start"  # type: ignore[union-attr] # a coroutine
                for task in server.call(asyncio.all_tasks)
            ):
                deadline.wait(0.01)
        server.call(gate.set)
        while not server.get("/containers/web/json").json["State"]["Running"]:
            deadline.wait(0.01)
        assert engine.containers.get("web").state.running


class TestProcessesAndChanges:
    """What a container does, and has done to its files."""

    def test_top(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """Processes are a table; ps's arguments are the engine's to read."""
        assert running
        assert server.get("/containers/web/top?ps_args=aux").json == {
            "Titles": ["PID", "CMD"],
            "Processes": [["1", "sh"]],
        }
        assert engine.containers.calls[-1] == ("top", "aux")
        server.get("/containers/web/top")
        assert engine.containers.calls[-1] == ("top", "-ef")

    def test_changes(self, server: ApiServer) -> None:
        """Docker's numbers: 0 modified, 1 added, 2 deleted."""
        create(server)
        assert server.get("/containers/web/changes").json == [
            {"Path": "/etc", "Kind": 0},
            {"Path": "/new", "Kind": 1},
            {"Path": "/old", "Kind": 2},
        ]

    def test_prune(self, server: ApiServer, engine: FakeEngine) -> None:
        """Filters are passed; unknown ones are refused before anything is removed."""
        id = create(server)
        assert server.post('/containers/prune?filters={"zz":["a"]}').status == 400
        answer = server.post('/containers/prune?filters={"until":["1h"]}')
        assert answer.json == {"ContainersDeleted": [id], "SpaceReclaimed": 10}
        assert engine.containers.calls[-1] == ("prune", {"until": ("1h",)})

    def test_stats_once(self, server: ApiServer, running: str) -> None:
        """One-shot statistics come at once, with nothing to compare them with."""
        view = server.get("/containers/web/stats?stream=0&one-shot=1").json
        assert (view["id"], view["name"]) == (running, "/web")
        assert view["preread"] == "0001-01-01T00:00:00Z"
        assert view["cpu_stats"]["cpu_usage"]["total_usage"] == 5_000_000
        assert view["cpu_stats"]["online_cpus"] == 2
        assert view["memory_stats"]["limit"] < 1 << 62
        assert view["networks"]["eth0"]["rx_bytes"] == 10
        assert {"major": 8, "minor": 0, "op": "write", "value": 200} in view["blkio_stats"][
            "io_service_bytes_recursive"
        ]

    def test_a_stream_is_not_one_shot(self, server: ApiServer, running: str) -> None:
        """The two contradict each other."""
        assert running
        answer = server.get("/containers/web/stats?one-shot=1")
        assert (answer.status, answer.message) == (400, "cannot have stream=true and one-shot=true")

    def test_stats_have_two_readings(self, server: ApiServer, running: str) -> None:
        """Without one-shot there is a reading before, from which the CPU's share is counted."""
        assert running
        view = server.get("/containers/web/stats?stream=0").json
        assert view["preread"] != "0001-01-01T00:00:00Z"
        assert view["precpu_stats"]["system_cpu_usage"] == 1_000_000_000

    def test_stats_of_what_does_not_run(self, server: ApiServer) -> None:
        """Zeros, as Docker answers."""
        create(server)
        view = server.get("/containers/web/stats?stream=0").json
        assert view["read"] == "0001-01-01T00:00:00Z"
        assert (view["memory_stats"], view["pids_stats"]) == ({}, {})

    def test_stats_stream(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """A line each second, until the container has gone."""
        with server.connect() as client:
            client.sendall(b"GET /containers/web/stats HTTP/1.0\r\nHost: d\r\n\r\n")
            reader = client.makefile("rb")
            while reader.readline() != b"\r\n":
                pass
            first, second = json.loads(reader.readline()), json.loads(reader.readline())
            assert second["preread"] == first["read"]
            server.run(engine.containers.remove(running, force=True))
            assert reader.readline() == b""
            reader.close()


class TestFiles:
    """Files out of a container and into it."""

    def test_export_is_streamed(self, server: ApiServer, engine: FakeEngine) -> None:
        """The whole root comes as it is, in whatever pieces."""
        create(server)
        engine.containers.export_chunks = [b"a" * (3 << 20), b"b"]
        answer = server.get("/containers/web/export")
        assert answer.body == b"a" * (3 << 20) + b"b"
        assert engine.containers.closed_streams == 1

    def test_archive_stat(self, server: ApiServer) -> None:
        """A file's status stands in a header, in base64."""
        create(server)
        answer = server.request("HEAD", "/containers/web/archive?path=/etc/passwd")
        assert answer.status == 200
        stat = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        assert stat == {
            "name": "passwd",
            "size": 5,
            "mode": 0o644,
            "mtime": "2026-11-18T11:06:40.123456789Z",
            "linkTarget": "",
        }
        assert server.request("HEAD", "/containers/web/archive?path=/missing").status == 404

    def test_archive_get_and_put(self, server: ApiServer, engine: FakeEngine) -> None:
        """Archives pass whole in both directions, with their options."""
        create(server)
        engine.containers.archive = b"x" * 1_000_000
        answer = server.get("/containers/web/archive?path=/a")
        assert answer.headers["Content-Type"] == "application/x-tar"
        assert "X-Docker-Container-Path-Stat" in answer.headers
        assert answer.body == engine.containers.archive
        data = b"y" * 3_000_000
        put = server.request(
            "PUT",
            "/containers/web/archive?path=/a&noOverwriteDirNonDir=true&copyUIDGID=1",
            data,
            headers={"Content-Type": "application/x-tar"},
        )
        assert put.status == 200
        assert engine.containers.uploads == [data]
        assert engine.containers.calls[-1] == ("archive_put", "/a", True, True)

    def test_a_path_is_needed(self, server: ApiServer) -> None:
        """Without one, nothing is meant."""
        create(server)
        for method in ("GET", "PUT"):
            answer = server.request(method, "/containers/web/archive")
            assert (answer.status, answer.message) == (400, "bad parameter: path cannot be empty")

    def test_an_upload_cut_short_is_no_upload(self, server: ApiServer, engine: FakeEngine) -> None:
        """The engine is told when a client goes in the midst of an archive."""
        create(server)
        with server.connect() as client:
            client.sendall(
                b"PUT /containers/web/archive?path=/a HTTP/1.1\r\nHost: d\r\n"
                b"Content-Length: 1000\r\n\r\nhalf"
            )
        assert server.get("/_ping").status == 200
        assert engine.containers.uploads == []


class TestLogs:
    """What a container wrote."""

    FRAMED = b"\x01\0\0\0\0\0\0\x06hello\n\x02\0\0\0\0\0\0\x05oops\n"

    def test_framed(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """Without a terminal, each piece says which stream it is of."""
        assert running
        answer = server.get("/containers/web/logs?stdout=1&stderr=1")
        assert answer.body == self.FRAMED
        assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
        older = server.get("/v1.41/containers/web/logs?stdout=1&stderr=1")
        assert older.headers["Content-Type"] == "application/vnd.docker.raw-stream"
        assert engine.containers.calls[-1][0] == "framed_logs"

    def test_raw_with_a_terminal(self, server: ApiServer) -> None:
        """A terminal has one stream only."""
        create(server, Tty=True)
        answer = server.get("/containers/web/logs?stdout=1&timestamps=1")
        assert answer.body == (
            b"2026-11-18T11:06:40.123456789Z hello\n2026-11-18T11:06:40.123456790Z oops\n"
        )
        assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"

    def test_timestamps(self, server: ApiServer, running: str) -> None:
        """A time has always nine digits behind the point."""
        assert running
        answer = server.get("/containers/web/logs?stdout=1&stderr=1&timestamps=1")
        assert answer.body.startswith(b"\x01\0\0\0\0\0\0\x252026-11-18T11:06:40.123456789Z hello\n")

    def test_details(self, server: ApiServer) -> None:
        """What the log's options name of labels and variables stands before each line."""
        create(server, "bare")
        bare = server.get("/containers/bare/logs?stdout=1&stderr=1&details=1")
        assert bare.body == b"\x01\0\0\0\0\0\0\x07 hello\n\x02\0\0\0\0\0\0\x06 oops\n"
        log = {"Config": {"labels": "tier", "env-regex": "^A", "tag": "{{.Name}}"}}
        labels = {"tier": "a b", "other": "1"}
        host = {"LogConfig": log}
        create(server, "told", Tty=True, Labels=labels, Env=["A=1,", "B=2"], HostConfig=host)
        told = server.get("/containers/told/logs?stdout=1&details=1&timestamps=1")
        assert told.body.splitlines()[0] == (
            b"2026-11-18T11:06:40.123456789Z A=1%2C,tag=told,tier=a+b hello"
        )

    def test_options(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """Times in every form Docker takes, and a tail that may be `all`."""
        assert running
        server.get("/containers/web/logs?stdout=1&since=1.5&until=1970-01-01T00:00:10.25Z&tail=7")
        options = engine.containers.calls[-1][1]
        assert (options.since, options.until, options.tail) == (
            1_500_000_000,
            10_250_000_000,
            7,
        )
        assert (options.stdout, options.stderr, options.follow) == (True, False, False)
        for text, tail in (("all", None), ("-1", None), ("%2B2", 2), ("02", 2), ("0x2", None)):
            server.get(f"/containers/web/logs?stderr=1&tail={text}")
            assert engine.containers.calls[-1][1].tail == tail
        assert server.get("/containers/web/logs?stdout=1&since=zz").status == 400

    def test_a_stream_must_be_chosen(self, server: ApiServer, running: str) -> None:
        """Neither of them is a mistake."""
        assert running
        answer = server.get("/containers/web/logs")
        assert answer.message == "Bad parameters: you must choose at least one stream"

    def test_following_ends_with_the_client(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """A client that goes while nothing is written is noticed, and its stream closed."""
        assert running
        with server.connect() as client:
            client.sendall(
                b"GET /containers/web/logs?stdout=1&stderr=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n"
            )
            data = b""
            while b"oops" not in data:
                data += client.recv(65536)
            assert engine.containers.closed_streams == 0
        for _ in range(500):
            if engine.containers.closed_streams:
                break
            server.get("/_ping")
        assert engine.containers.closed_streams == 1


class TestPannier:
    """What Docker's API has no word for."""

    def test_explain(self, server: ApiServer, engine: FakeEngine) -> None:
        """A create body is planned and nothing is created."""
        answer = server.post("/pannier/explain?name=plan", {"Image": "busybox"})
        assert answer.json == {
            "Steps": [
                {
                    "Driver": "overlay",
                    "Kind": "storage",
                    "Action": "mount",
                    "Subject": "/root",
                    "Detail": "rw",
                }
            ]
        }
        assert engine.containers.calls[-1][1].name == "plan"
        assert engine.containers.known == {}

    def test_trace(self, server: ApiServer, engine: FakeEngine) -> None:
        """A traced start can be asked for its events."""
        id = create(server)
        server.post("/v1.51/containers/web/start?trace=1")
        assert ("start", id, True) in engine.containers.calls
        answer = server.get("/v1.51/pannier/containers/web/trace")
        assert answer.json == {
            "Events": [
                {
                    "Driver": "overlay",
                    "Action": "mount",
                    "Subject": "/root",
                    "Detail": "",
                    "BeginNs": 10,
                    "EndNs": 20,
                }
            ]
        }

    def test_drivers(self, server: ApiServer) -> None:
        """The rows are the composition root's."""
        assert server.get("/pannier/drivers/trace").json == {
            "Calls": [{"Plugin": "storage_overlay", "Call": "open"}]
        }
        assert server.get("/pannier/drivers").json == {
            "Drivers": [{"Kind": "storage", "Id": "overlay"}]
        }
