"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent / "core" / "pannier"
MODULES = sorted(CORE.rglob("*.py"))
DRIVER_NAMES = {"overlay", "vfs", "native", "json-file"}
"""The ids of built-in drivers that have no other meaning: bridge, host, none and local are words of
Docker's API, v1, v2 and syslog those of the kernel."""

FORMATS = {"unpack.py": {"overlay"}, "unpack_tree.py": {"overlay"}}
"""Where overlay is the name of a form of whiteouts, which any driver may ask for."""


def strings(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the string constants of a module that are no docstrings."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_driver_by_name(path: Path) -> None:
    """Neither a driver's package nor its id stands in the core's code."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bpannier_(storage|net|cgroup|runtime|log)_\w+\s*(import|\.)", text)
    telling = DRIVER_NAMES - FORMATS.get(path.name, set())
    named = [f"{line}: {value}" for line, value in strings(ast.parse(text)) if value in telling]
    assert named == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_only_linux_touches_ctypes(path: Path) -> None:
    """System calls have one room."""
    if "linux" not in path.relative_to(CORE).parts:
        assert not re.search(
            r"^\s*(import|from) ctypes\b", path.read_text(encoding="utf-8"), re.MULTILINE
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """A module begins with a docstring, and names what it offers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
