"""The configuration file: what is accepted, and how mistakes are named."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier import config
from pannier.errors import ConfigError

PATH = Path("/etc/pannier/pannier.toml")


@dataclass(frozen=True)
class Options:
    """A driver's table, as a driver would declare it."""

    name: str = "x"
    count: int = 1
    on: bool = True
    words: tuple[str, ...] = ()
    folder: Path | None = None


def test_an_empty_file_gives_the_defaults() -> None:
    """Every key has a default."""
    assert config.parse("") == config.Config(
        tables={kind: {} for kind in config.KINDS}, origin=config.Origin(None, "")
    )


def test_the_fixed_keys_are_read() -> None:
    """The keys that other programs rely on keep their names."""
    read = config.parse(
        """
        [engine]
        root = "/r"
        state = "/s"
        socket = "/x.sock"
        [drivers]
        storage = "vfs"
        resources = "v1"
        runtime = "native"
        network = "host"
        [storage.overlay]
        anything = 1
        """
    )
    assert read.engine.root == Path("/r")
    assert read.engine.state == Path("/s")
    assert read.engine.socket == Path("/x.sock")
    assert read.drivers == config.DriversTable("vfs", "v1", "native", "host")
    assert read.tables["storage"]["overlay"] == {"anything": 1}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[engin]\nroot = "/x"', 1, ["[engin]", "'engine'"]),
        ('[engine]\n\nrot = "/x"', 3, ["'rot'", "'root'"]),
        ("[engine]\nroot = 5", 2, ["root", "absolute path", "5"]),
        ('[engine]\nroot = "relative"', 2, ["root", "absolute path"]),
        ("# a comment\n[drivers]\nstorage = true", 3, ["storage", "a string", "True"]),
        ("[storage]\noverlay = 1", 2, ["storage.overlay", "must be a table"]),
        ("engine = 1", 1, ["engine must be a table"]),
    ],
)
def test_a_mistake_is_named_with_file_line_key_and_expectation(
    text: str, line: int, words: list[str]
) -> None:
    """The reader of the error can go straight to the line and mend it."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, PATH)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert message.startswith(f"{PATH}:{line}: ")
    for word in words:
        assert word in message


def test_broken_toml_is_reported_with_its_place() -> None:
    """The parser's own position is passed on."""
    with pytest.raises(ConfigError, match="line 1"):
        config.parse("[engine\n", PATH)


def test_a_drivers_table_becomes_its_dataclass() -> None:
    """Lists become tuples and paths become Path objects."""
    read = config.parse('[storage.mine]\nname = "n"\nwords = ["a"]\nfolder = "/f"\non = false')
    options = read.driver_config("storage", "mine", Options)
    assert options == Options("n", 1, False, ("a",), Path("/f"))


@pytest.mark.parametrize(
    "line", ['count = "1"', "count = true", "on = 1", "words = [1]", "nam = 1"]
)
def test_a_drivers_table_is_checked_against_its_dataclass(line: str) -> None:
    """Wrong types and unknown keys are refused; a boolean is no number."""
    read = config.parse(f"[storage.mine]\n{line}", PATH)
    with pytest.raises(ConfigError, match=r"pannier\.toml:2: "):
        read.driver_config("storage", "mine", Options)


def test_what_render_writes_parse_reads() -> None:
    """``config init`` writes a file that ``config check`` accepts."""
    read = config.parse('[engine]\nroot = "/r"\n[network.bridge]\nmtu = 1400')
    again = config.parse(config.render(read))
    assert (again.engine, again.drivers, again.tables) == (read.engine, read.drivers, read.tables)


def test_a_named_file_that_is_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only the default file may be missing."""
    with pytest.raises(ConfigError, match="does not exist"):
        config.find(str(tmp_path / "none.toml"))
    monkeypatch.setenv(config.VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="does not exist"):
        config.find()


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PANNIER_CONFIG is read; --config goes before it."""
    first, second = tmp_path / "1.toml", tmp_path / "2.toml"
    first.write_text('[engine]\ngroup = "one"')
    second.write_text('[engine]\ngroup = "two"')
    monkeypatch.setenv(config.VARIABLE, str(first))
    assert config.load().engine.group == "one"
    assert config.load(str(second)).engine.group == "two"


@given(st.text())
def test_no_text_makes_parse_fail_otherwise(text: str) -> None:
    """Whatever the file holds, the answer is a configuration or a ConfigError."""
    with contextlib.suppress(ConfigError):
        assert config.parse(text, PATH).origin.path == PATH
