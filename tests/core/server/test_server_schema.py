"""Answers against the Docker Engine API's specification, which is not part of this project.

Set PANNIER_API_SPEC to the specification's path (docker-engine-api-v1.51.yaml, from Docker's
documentation) to run these tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.swagger import specification

if TYPE_CHECKING:
    from support.api_server import ApiServer
    from support.fake_engine import FakeEngine
    from support.swagger import Specification

# An answer may have these though the specification does not: older clients read them.
KNOWN_EXTRAS = {
    "VirtualSize",  # images, until API 1.44
    "Rootfs",  # our own
    "hint",  # our own
    "BuilderSize",  # disk usage, until API 1.42
    "LayersSize",
    "status",
    "id",
    "from",  # events, until API 1.22 in the specification, still sent by Docker
    "percpu_usage",
    "IndexServerAddress",
    "Isolation",
    "GoVersion",
}


# Docker answers null for these, and the specification does not say that it may.
KNOWN_NULLS = {"MemorySwappiness", "ExitCode"}


def _is_known(fault: str) -> bool:
    name = fault.split(maxsplit=1)[0].rpartition(".")[2]
    if fault.endswith("is not specified"):
        return name in KNOWN_EXTRAS
    return fault.endswith("is null") and name in KNOWN_NULLS


@pytest.fixture(scope="module")
def spec() -> Specification:
    """Return the specification."""
    return specification()


@pytest.fixture
def world(server: ApiServer, engine: FakeEngine) -> dict[str, str]:
    """Make one of everything; return what stands for the names in paths."""
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1"],
        "Labels": {"a": "b"},
        "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
        "Volumes": {"/v": {}},
        "StopSignal": "SIGTERM",
        "StopTimeout": 5,
        "Healthcheck": {"Test": ["CMD", "true"]},
        "Shell": ["/bin/sh"],
        "HostConfig": {
            "Binds": ["/tmp:/x"],
            "Mounts": [
                {"Type": "bind", "Source": "/tmp", "Target": "/b"},
                {
                    "Type": "tmpfs",
                    "Target": "/t",
                    "TmpfsOptions": {"SizeBytes": 4096, "Options": [["noexec"]]},
                },
            ],
            "Tmpfs": {"/t2": "size=1m"},
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
            "Memory": 1 << 28,
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "Devices": [{"PathOnHost": "/dev/null"}],
            "Sysctls": {"a": "b"},
            "StorageOpt": {"size": "1G"},
            "Annotations": {"a": "b"},
            "Init": True,
        },
        "NetworkingConfig": {
            "EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "172.20.0.2"}}}
        },
    }
    answer = server.post("/containers/create?name=web", body)
    assert answer.status == 201
    server.post("/containers/web/start")
    exec_id = server.post("/containers/web/exec", {"Cmd": ["true"]}).json["Id"]
    server.post("/volumes/create", {"Name": "data", "Labels": {"a": "b"}})
    server.call(engine.publish, "container", "start", answer.json["Id"], {"image": "busybox"})
    return {"container": answer.json["Id"], "exec": exec_id}


# Operation, its concrete path, and a body.
ANSWERS: list[tuple[str, str, str, Any]] = [
    ("GET", "/containers/json", "/containers/json?all=1&size=1", None),
    ("POST", "/containers/create", "/containers/create", {"Image": "busybox"}),
    ("GET", "/containers/{id}/json", "/containers/web/json?size=1", None),
    ("GET", "/containers/{id}/top", "/containers/web/top", None),
    ("GET", "/containers/{id}/changes", "/containers/web/changes", None),
    ("GET", "/containers/{id}/stats", "/containers/web/stats?stream=0&one-shot=1", None),
    ("POST", "/containers/{id}/update", "/containers/web/update", {"CpuShares": 5}),
    ("POST", "/containers/{id}/wait", "/containers/stopped/wait", None),
    ("POST", "/containers/prune", "/containers/prune", None),
    ("GET", "/images/json", "/images/json?shared-size=1", None),
    ("GET", "/images/{name}/json", "/images/busybox/json", None),
    ("GET", "/images/{name}/history", "/images/busybox/history", None),
    ("DELETE", "/images/{name}", "/images/busybox", None),
    ("POST", "/images/prune", "/images/prune", None),
    ("GET", "/info", "/info", None),
    ("GET", "/version", "/version", None),
    ("POST", "/commit", "/commit?container=web", {}),
    ("GET", "/events", "/events?since=1&until=1795000001", None),
    ("GET", "/system/df", "/system/df", None),
    ("POST", "/containers/{id}/exec", "/containers/web/exec", {"Cmd": ["true"]}),
    ("GET", "/exec/{id}/json", "/exec/{exec}/json", None),
    ("GET", "/volumes", "/volumes", None),
    ("POST", "/volumes/create", "/volumes/create", {"Name": "more"}),
    ("GET", "/volumes/{name}", "/volumes/data", None),
    ("POST", "/volumes/prune", "/volumes/prune", None),
    ("GET", "/networks", "/networks", None),
    ("GET", "/networks/{id}", "/networks/bridge", None),
    ("POST", "/networks/create", "/networks/create", {"Name": "lan"}),
    ("POST", "/networks/prune", "/networks/prune", None),
    ("POST", "/build/prune", "/build/prune", None),
    ("GET", "/plugins", "/plugins", None),
    ("GET", "/containers/{id}/json", "/containers/nope/json", None),
    ("GET", "/images/{name}/json", "/images/nope/json", None),
    ("GET", "/swarm", "/swarm", None),
    ("POST", "/containers/create", "/containers/create", {}),
]


# Those that answer with no JSON object: operation, concrete path, body, and the status.
OTHERS: list[tuple[str, str, str, Any, int]] = [
    ("GET", "/containers/{id}/logs", "/containers/web/logs?stdout=1", None, 200),
    ("GET", "/containers/{id}/export", "/containers/web/export", None, 200),
    ("POST", "/containers/{id}/resize", "/containers/web/resize?h=20&w=80", None, 200),
    ("POST", "/containers/{id}/start", "/containers/stopped/start", None, 204),
    ("POST", "/containers/{id}/start", "/containers/web/start", None, 304),
    ("POST", "/containers/{id}/stop", "/containers/web/stop", None, 204),
    ("POST", "/containers/{id}/stop", "/containers/stopped/stop", None, 304),
    ("POST", "/containers/{id}/restart", "/containers/web/restart", None, 204),
    ("POST", "/containers/{id}/kill", "/containers/web/kill", None, 204),
    ("POST", "/containers/{id}/kill", "/containers/stopped/kill", None, 409),
    ("POST", "/containers/{id}/rename", "/containers/web/rename?name=site", None, 204),
    ("POST", "/containers/{id}/pause", "/containers/web/pause", None, 204),
    ("POST", "/containers/{id}/unpause", "/containers/nope/unpause", None, 404),
    ("POST", "/containers/{id}/attach", "/containers/nope/attach?stdout=1", None, 404),
    ("GET", "/containers/{id}/attach/ws", "/containers/nope/attach/ws", None, 404),
    ("DELETE", "/containers/{id}", "/containers/stopped", None, 204),
    ("DELETE", "/containers/{id}", "/containers/web", None, 409),
    ("HEAD", "/containers/{id}/archive", "/containers/web/archive?path=/f", None, 200),
    ("GET", "/containers/{id}/archive", "/containers/web/archive?path=/f", None, 200),
    ("PUT", "/containers/{id}/archive", "/containers/web/archive?path=/", b"tar", 200),
    ("POST", "/images/create", "/images/create?fromImage=busybox", None, 200),
    ("POST", "/images/{name}/push", "/images/busybox/push", None, 200),
    ("POST", "/images/{name}/tag", "/images/busybox/tag?repo=other", None, 201),
    ("POST", "/images/{name}/tag", "/images/busybox/tag?repo=UPPER", None, 400),
    ("GET", "/images/search", "/images/search?term=busybox", None, 200),
    ("POST", "/auth", "/auth", {"username": "jo", "password": "secret"}, 200),
    ("POST", "/auth", "/auth", {"username": "jo", "password": "wrong"}, 401),
    ("GET", "/_ping", "/_ping", None, 200),
    ("HEAD", "/_ping", "/_ping", None, 200),
    ("GET", "/images/{name}/get", "/images/busybox/get", None, 200),
    ("GET", "/images/get", "/images/get?names=busybox", None, 200),
    ("POST", "/images/load", "/images/load", b"tar", 200),
    ("POST", "/exec/{id}/start", "/exec/{exec}/start", {"Detach": True}, 200),
    ("POST", "/exec/{id}/resize", "/exec/nope/resize?h=20&w=80", None, 404),
    ("DELETE", "/volumes/{name}", "/volumes/data", None, 204),
    ("DELETE", "/volumes/{name}", "/volumes/nope", None, 404),
    ("DELETE", "/networks/{id}", "/networks/bridge", None, 403),
    ("DELETE", "/networks/{id}", "/networks/nope", None, 404),
    ("POST", "/networks/{id}/connect", "/networks/bridge/connect", {"Container": "web"}, 200),
    ("POST", "/networks/{id}/disconnect", "/networks/bridge/disconnect", {"Container": "web"}, 200),
    ("GET", "/distribution/{name}/json", "/distribution/busybox/json", None, 200),
]

# Of other machines, and of BuildKit.
ELSEWHERE = (
    *("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/plugins", "/session"),
    "PUT /volumes/{name}",
)
NOT_HERE = {("POST", "/build")}
"""The engine here has no builder: see the tests of builds."""


def test_every_operation_of_one_host_is_walked(spec: Specification) -> None:
    """All sixty-four, but the one that is tested elsewhere."""
    walked = {call[:2] for call in (*ANSWERS, *OTHERS)}
    wanted = {
        (method, path)
        for method, path in spec.operations()
        if not path.startswith(ELSEWHERE) and f"{method} {path}" not in ELSEWHERE
    }
    assert len(wanted) == 64
    assert wanted - walked == NOT_HERE


@pytest.mark.parametrize("call", OTHERS, ids=lambda call: f"{call[0]} {call[2]} {call[4]}")
def test_other_answers_have_a_specified_status(
    server: ApiServer,
    spec: Specification,
    world: dict[str, str],
    call: tuple[str, str, str, Any, int],
) -> None:
    """And errors, like what else is JSON, follow their schema."""
    method, operation, path, body, status = call
    server.post("/containers/create?name=stopped", {"Image": "busybox"})
    answer = server.request(method, path.format_map(world), body)
    assert answer.status == status
    assert status in spec.statuses(method, operation)
    stream = b"\n{" in answer.body
    if answer.headers.get_content_type() == "application/json" and answer.body and not stream:
        faults = spec.faults(method, operation, status, answer.json)
        assert [fault for fault in faults if not _is_known(fault)] == []


@pytest.mark.parametrize("call", ANSWERS, ids=lambda call: f"{call[0]} {call[2]}")
def test_answers_follow_the_specification(
    server: ApiServer, spec: Specification, world: dict[str, str], call: tuple[str, str, str, Any]
) -> None:
    """Statuses, types, required fields, and no field that the specification does not have."""
    method, operation, path, body = call
    server.post("/containers/create?name=stopped", {"Image": "busybox"})
    answer = server.request(method, path.format_map(world), body)
    lines = [answer.json] if operation != "/events" else []
    faults = [
        fault
        for value in lines
        for fault in spec.faults(method, operation, answer.status, value)
        if not _is_known(fault)
    ]
    assert faults == []


def test_every_operation_is_known(server: ApiServer, spec: Specification) -> None:
    """No operation of the specification is answered with "page not found"."""
    unknown = []
    for method, path in spec.operations():
        concrete = path.replace("{id}", "nope").replace("{name}", "nope")
        if concrete in {"/events", "/containers/nope/attach/ws"}:
            continue
        answer = server.request(method, f"/v1.51{concrete}")
        if answer.status == 404 and b"page not found" in answer.body:
            unknown.append(f"{method} {path}")
    assert unknown == []
