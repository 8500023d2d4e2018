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


def inner_modules() -> set[str]:
    """Return the modules beside the contracts that the promise excepts by name."""
    promise = (ROOT / "docs/stability.md").read_text(encoding="utf-8")
    [excepted] = re.findall(
        r"a module below `pannier\.drivers` names in its `__all__`, but for (.*?), which",
        promise,
        re.DOTALL,
    )
    return set(re.findall(r"`(\w+)`", excepted))


def test_every_contract_has_a_page() -> None:
    """Each module that is promised has one, which the index lists; the others are named as such."""
    inner = inner_modules()
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8").splitlines()
    modules = {path.stem for path in Path(inspect.getfile(pannier.drivers)).parent.glob("*.py")}
    assert inner < modules
    for module in modules - inner - {"__init__"}:
        page = (REFERENCE / f"{module}.md").read_text(encoding="utf-8")
        assert f".. automodule:: pannier.drivers.{module}\n" in page
        assert f"reference/{module}" in index


def test_drivers_use_no_inner_module() -> None:
    """No driver of ours imports what is out of the promise: another author's could not either."""
    inner = re.compile(rf"pannier\.drivers(\.| import .*)({'|'.join(inner_modules())})\b")
    for folder in ("plugins", "examples", "core/pannier/plugin_templates"):
        for path in (ROOT / folder).rglob("*.py*"):
            if path.suffix in {".py", ".tmpl"}:
                assert not inner.search(path.read_text(encoding="utf-8")), path
