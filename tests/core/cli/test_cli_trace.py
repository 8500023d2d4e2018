"""Plans and traces are readable, and the trace file is what Perfetto reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pannier.cli.explain import plan_lines
from pannier.cli.trace import trace_json, waterfall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENTS = [
    {"Driver": "overlay", "Action": "mount", "Subject": "/m", "Detail": "", "BeginNs": 1_000_000,
     "EndNs": 2_000_000},
    {"Driver": "native", "Action": "fork", "Subject": "shim", "Detail": "d", "BeginNs": 2_000_000,
     "EndNs": 5_000_000},
]  # fmt: skip
STEPS = [
    {"Driver": "overlay", "Kind": "storage", "Action": "mount", "Subject": "/m", "Detail": "ro"},
    {"Driver": "overlay", "Kind": "storage", "Action": "write", "Subject": "/mm", "Detail": ""},
    {"Driver": "native", "Kind": "runtime", "Action": "fork", "Subject": "x", "Detail": ""},
]


def test_the_plan_is_grouped_by_driver() -> None:
    """Steps keep their order, under the driver that asks for them, in aligned columns."""
    assert plan_lines(STEPS) == [
        "overlay (storage)",
        "    1  mount  /m   ro",
        "    2  write  /mm",
        "",
        "native (runtime)",
        "    3  fork   x",
        "",
        "3 steps; nothing was done",
    ]


def test_one_long_step_does_not_push_the_others_apart() -> None:
    """Whole ids are cut, and what is longer than a column leaves the others where they are."""
    long = {"Driver": "v1", "Action": "join", "Subject": "/x " * 100, "Detail": "d"}
    short = {"Driver": "v1", "Action": "kill", "Subject": "f" * 64, "Detail": "d"}
    lines = plan_lines([long, short])
    assert lines[2] == "    2  kill  ffffffffffff  d"


def test_the_waterfall_shows_when_and_how_long() -> None:
    """Each operation has its start, its time and a bar in proportion."""
    lines = waterfall(EVENTS)
    assert lines[0].split() == ["START", "TIME", "DRIVER", "OPERATION"]
    assert "0.000 ms" in lines[1]
    assert "3.000 ms" in lines[2]
    assert lines[1].count("#") == 10
    assert lines[2].count("#") == 30
    assert lines[2].index("#") > lines[1].index("#")
    assert lines[-1] == "2 operations in 4.000 ms"
    assert waterfall([]) == ["no operations were traced"]


def test_the_trace_file_is_in_the_trace_event_format() -> None:
    """Complete events in microseconds, one named thread a driver."""
    found = json.loads(trace_json(EVENTS))
    names = {one["tid"]: one["args"]["name"] for one in found["traceEvents"] if one["ph"] == "M"}
    spans = [one for one in found["traceEvents"] if one["ph"] == "X"]
    assert [(one["name"], one["ts"], one["dur"]) for one in spans] == [
        ("mount /m", 0, 1000),
        ("fork shim", 1000, 3000),
    ]
    assert [names[one["tid"]] for one in spans] == ["overlay", "native"]


def test_explain_sends_the_create_body_and_does_nothing(
    cli: Callable[..., Any], daemon: Any
) -> None:
    """``run --explain`` asks for the plan of the same body, and for nothing else."""
    daemon.reply("POST", "/pannier/explain", {"Steps": STEPS})
    outcome = cli("run", "--explain", "--name", "n", "-m", "64m", "busybox", "true")
    assert outcome.status == 0
    assert outcome.out.splitlines() == plan_lines(STEPS)
    [request] = daemon.requests
    assert request.query == "name=n"
    assert request.json()["HostConfig"] == {"Memory": 64 << 20}
    outcome = cli("run", "--explain", "--format", "json", "busybox")
    assert json.loads(outcome.out)["Steps"] == STEPS
    outcome = cli("run", "--explain", "--format", "{{.Driver}}:{{.Action}}", "busybox")
    assert outcome.out.splitlines() == ["overlay:mount", "overlay:write", "native:fork"]


def test_a_detached_run_can_be_traced(cli: Callable[..., Any], daemon: Any, tmp_path: Path) -> None:
    """``run -d --trace=FILE`` starts with tracing, prints the id and writes the file."""
    daemon.reply("POST", "/containers/create", {"Id": "abc"}, 201)
    daemon.reply("POST", "/containers/abc/start", b"", 204)
    daemon.reply("GET", "/pannier/containers/abc/trace", {"Events": EVENTS})
    file = tmp_path / "trace.json"
    outcome = cli("run", "-d", f"--trace={file}", "busybox")
    assert (outcome.status, outcome.out) == (0, "abc\n")
    assert json.loads(file.read_text())["traceEvents"]
    assert [one.query for one in daemon.requests if one.path.endswith("start")] == ["trace=1"]
