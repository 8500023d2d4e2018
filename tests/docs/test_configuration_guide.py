"""The guide to the configuration has every key, with its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pannier import config
from pannier.plugins import load_plugins

GUIDE = (Path(__file__).parent.parent.parent / "docs/configuration.md").read_text(encoding="utf-8")

CORE = {
    "engine": config.EngineTable,
    "drivers": config.DriversTable,
    "registries": config.RegistriesTable,
    'registry."HOST"': config.RegistryTable,
}
DRIVERS = {
    f"{row.kind}.{row.id}": row.driver.config_type
    for row in load_plugins()
    if row.driver is not None and row.distribution == "pannier"
}


def _documented(table: str) -> dict[str, str]:
    """Return the keys of a table that the guide names, each with its default as it stands there."""
    sections = re.split(r"^##+ ", GUIDE, flags=re.MULTILINE)
    [section] = [part for part in sections if f"`[{table}]`" in part.partition("\n")[0]]
    return dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`|[^|]*?) ?\|", section, re.MULTILINE))


def _as_toml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_as_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, (str, Path)) else str(value)


@pytest.mark.parametrize(
    "table", [name for name, kind in (CORE | DRIVERS).items() if dataclasses.fields(kind)]
)
def test_every_key_is_documented(table: str) -> None:
    """No more and no less than the table has; where a default is given, it is the right one."""
    fields = dataclasses.fields((CORE | DRIVERS)[table])
    documented = _documented(table)
    assert set(documented) == {field.name for field in fields}
    for field in fields:
        if documented[field.name]:
            assert documented[field.name] == _as_toml(field.default)


def test_every_driver_is_named() -> None:
    """Also those that have nothing to configure."""
    assert {
        name for name in DRIVERS if f"`{name}`" not in GUIDE and f"`[{name}]`" not in GUIDE
    } == set()


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL))
def test_the_examples_are_valid(text: str) -> None:
    """As they stand there."""
    config.parse(text)
