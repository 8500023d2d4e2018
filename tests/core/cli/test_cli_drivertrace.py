"""``drivers --trace``: what loading plugins took, as the daemon noted it or as it is here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pannier.cli.drivertrace import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def call(plugin: str, call: str, begin: int, end: int, **more: str) -> dict[str, Any]:
    """Return a call as the daemon has it; times in milliseconds."""
    times = {"BeginNs": begin * 1_000_000, "EndNs": end * 1_000_000}
    return {"Plugin": plugin, "Call": call, "Kind": "", "Id": "", "Error": "", **times, **more}


CALLS = [
    call("net_good", "import", 1, 21),
    call("slow", "import", 21, 30021, Error="it did not end"),
    call("net_good", "pannier_network_drivers", 30021, 30022),
    call("net_good", "probe", 30022, 30025, Kind="network", Id="good"),
    call("net_good", "open", 30025, 30029, Kind="network", Id="good"),
]


def test_the_table_has_each_call_and_the_sums() -> None:
    """In the order in which they were made, each with its time, and its error where it had one."""
    lines = table(CALLS)
    assert lines == [
        "PLUGIN     CALL                      DRIVER         TIME           ERROR",
        "net_good   import                                   20.000 ms",
        "slow       import                                   30000.000 ms   it did not end",
        "net_good   pannier_network_drivers                  1.000 ms",
        "net_good   probe                     network good   3.000 ms",
        "net_good   open                      network good   4.000 ms",
        (
            "5 calls in 30028.000 ms: import 30020.000 ms, hook 1.000 ms, probe 3.000 ms, "
            "open 4.000 ms"
        ),
    ]
    assert table([])[-1].startswith("0 calls in 0.000 ms")


def test_the_daemon_is_asked(daemon: Any, cli: Callable[..., Any]) -> None:
    """What it noted at its start is shown; JSON has one object a line, as it came."""
    daemon.reply("GET", "/pannier/drivers/trace", {"Calls": CALLS})
    shown = cli("drivers", "--trace")
    assert (shown.status, shown.out.splitlines()) == (0, table(CALLS))
    plain = cli("drivers", "--trace", "--format", "json")
    assert [json.loads(line) for line in plain.out.splitlines()] == CALLS


def test_without_a_daemon_it_is_tried_here(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugins are loaded and probed, no driver is opened, and no daemon started."""
    for name in ("DOCKER_HOST", "PANNIER_HOST"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\nsocket = "{tmp_path}/s"\n'
    )
    shown = cli("--config", str(config), "drivers", "--trace", "--format", "json")
    assert shown.status == 0
    assert "nothing opened" in shown.err
    calls = [json.loads(line) for line in shown.out.splitlines()]
    built_in = [one for one in calls if one["Plugin"] == "net_none"]
    assert [one["Call"] for one in built_in] == ["import", "pannier_network_drivers", "probe"]
    assert all(one["EndNs"] >= one["BeginNs"] > 0 for one in calls)
    assert not (tmp_path / "daemon.log").exists()


def test_a_daemon_that_was_asked_for_and_does_not_answer(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    """Then its trace is not passed off with another one."""
    shown = cli("-H", f"unix://{tmp_path}/nobody", "drivers", "--trace")
    assert shown.status == 1
    assert shown.out == ""
