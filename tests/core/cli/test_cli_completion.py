"""Completion offers commands, options and the daemon's names, and is silent when it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pannier.cli.clickapp import make_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def complete(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], line: str) -> list[str]:
    """Return what bash would be offered at the end of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_PANNIER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    outcome = cli()
    monkeypatch.delenv("_PANNIER_COMPLETE")
    assert outcome.err == ""
    return [one.partition(",")[2] for one in outcome.out.splitlines() if one]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_printed(cli: Callable[..., Any], shell: str) -> None:
    """Each shell's script asks this program in its own way."""
    outcome = cli("completion", shell)
    assert outcome.status == 0
    assert f"_PANNIER_COMPLETE={shell}_complete" in outcome.out


def test_an_unknown_shell_is_refused(cli: Callable[..., Any]) -> None:
    """The shells that there are, are named."""
    outcome = cli("completion", "tcsh")
    assert outcome.status == 1
    assert "bash, zsh, fish" in outcome.err


def test_commands_and_options(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> None:
    """Commands, sub-commands and long options complete without a daemon."""
    assert complete(monkeypatch, cli, "pannier re") == ["rename", "restart"]
    assert complete(monkeypatch, cli, "pannier volume pr") == ["prune"]
    assert complete(monkeypatch, cli, "pannier run --memory-s") == [
        "--memory-swap",
        "--memory-swappiness",
    ]


def test_names_come_from_the_daemon(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], daemon: Any
) -> None:
    """Containers, images, volumes and networks complete by name."""
    daemon.reply("GET", "/containers/json", [{"Names": ["/web"]}, {"Names": ["/worker"]}])
    daemon.reply("GET", "/images/json", [{"RepoTags": ["busybox:latest", "<none>:<none>"]}])
    daemon.reply("GET", "/volumes", {"Volumes": [{"Name": "data"}]})
    daemon.reply("GET", "/networks", [{"Name": "bridge"}])
    assert complete(monkeypatch, cli, "pannier rm w") == ["web", "worker"]
    assert complete(monkeypatch, cli, "pannier rmi ") == ["busybox:latest"]
    assert complete(monkeypatch, cli, "pannier volume rm ") == ["data"]
    assert complete(monkeypatch, cli, "pannier run --network b") == ["bridge"]
    assert complete(monkeypatch, cli, "pannier inspect d") == ["data"]
    assert complete(monkeypatch, cli, "pannier run --rm b") == ["busybox:latest"]
    assert complete(monkeypatch, cli, "pannier cp w") == ["web:", "worker:"]


@pytest.mark.parametrize("body", [b"not json", b'{"a": 1}', b"[{}]", b"[5]"])
def test_nonsense_from_the_daemon_is_no_completion(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], daemon: Any, body: bytes
) -> None:
    """Whatever comes back, nothing is printed over the user's line."""
    daemon.reply("GET", "/containers/json", body)
    assert complete(monkeypatch, cli, "pannier rm ") == []


def test_without_a_daemon_nothing_is_offered_or_started(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], tmp_path: Any
) -> None:
    """A completion never starts a daemon."""
    for name in ("PANNIER_HOST", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "c.toml"
    config.write_text(f'[engine]\nsocket = "{tmp_path}/s/none.sock"\n')
    monkeypatch.setenv("PANNIER_CONFIG", str(config))
    assert complete(monkeypatch, cli, "pannier rm ") == []
    assert not (tmp_path / "s").exists()


def test_the_application_is_made_anew() -> None:
    """No state is kept between two of them."""
    assert make_app() is not make_app()


def test_contexts_complete_without_a_daemon(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """By the files that name them."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert cli("context", "create", "far", "--docker", "host=tcp://far").status == 0
    assert complete(monkeypatch, cli, "pannier context use ") == ["default", "far"]
    assert complete(monkeypatch, cli, "pannier --context f") == ["far"]
