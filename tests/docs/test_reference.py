"""The reference has every hook as it is, and every contract a page."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import pannier.drivers
from pannier.hookspecs import DriverHooks

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
HOOKS = {name: hook for name, hook in vars(DriverHooks).items() if name.startswith("pannier_")}


def signature(name: str) -> tuple[str, str]:
    """Return a hook's call and its answer, as the documentation writes them."""
    found = inspect.signature(HOOKS[name])
    parameters = [str(item) for item in found.parameters.values() if item.name != "self"]
    return f"{name}({', '.join(parameters)})", str(found.return_annotation)


def test_the_hooks_are_documented_as_they_are() -> None:
    """No more, no less, and with the signatures that they have."""
    text = (REFERENCE / "hooks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(pannier_.*?)` \| `(.*?)` \|$", text, re.MULTILINE)
    assert rows == [signature(name) for name in HOOKS]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test(name: str) -> None:
    """Some test implements it, as a plugin does, and so does a plugin of ours."""
    implementation = re.compile(rf"^\s*def {name}\(", re.MULTILINE)
    for folder in (ROOT / "tests", ROOT / "plugins"):
        files = folder.rglob("*.py")
        assert any(implementation.search(path.read_text(encoding="utf-8")) for path in files)


def test_every_contract_has_a_page() -> None:
    """Each module that drivers are written against is in the reference."""
    folder = Path(inspect.getfile(pannier.drivers)).parent
    helpers = {
        "__init__",
        "announced",
        "oci",
        "layer_errors",
        "layer_housekeeping",
        "layer_records",
        "sizes",
    }
    for path in folder.glob("*.py"):
        if path.stem not in helpers:
            page = (REFERENCE / f"{path.stem}.md").read_text(encoding="utf-8")
            assert f".. automodule:: pannier.drivers.{path.stem}\n" in page
