"""Answers beside those of a real dockerd 20.10 to the same calls, field by field."""

from __future__ import annotations

import fnmatch
import json
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.api_server import ApiServer

GOLDEN = Path(__file__).parent / "golden"
PEER: dict[str, dict[str, str]] = json.loads((GOLDEN / "dockerd_20_10.json").read_text())

# What a dockerd 20.10 has and Pannier has not, each with its reason.
ABSENT = {
    "* $.GraphDriver.Data.*": "the storage driver's own; a fake one here",
    "* $.HostConfig.KernelMemory": "gone from the API with 1.42",
    "image $.Container*": "gone from the API with 1.45",
    "image $.Config.*": "an image has no such fields since API 1.50; older clients are given them",
    "* *.RepoDigests[]": "the image of the recording was pulled from a registry",
    "info $.BridgeNfIp*tables": "gone from the API with 1.49",
    "info $.KernelMemory*": "gone from the API with 1.42 to 1.47",
    "info $.*Commit.Expected": "gone from the API with 1.49",
    "info $.DriverStatus[]*": "the storage driver has nothing to say here",
    "info $.RegistryConfig.Allow*": "gone from the API with 1.49",
    "info $.Runtimes.*": "the names of runtimes",
    "network $.Options.*": "Docker's own options of its bridge",
    "version $.Components[].Details.*": "Pannier is not built as a Go program is",
}
# Where a list or map is empty, Go answers null, [] or {} by chance; clients take each.
EMPTY = {"NoneType", "list", "dict"}


@pytest.fixture
def shapes(server: ApiServer) -> dict[str, dict[str, str]]:
    """Return the shapes of Pannier's answers."""
    server.post("/volumes/create", {"Name": "shapes"})
    recorder: dict[str, Any] = runpy.run_path(str(GOLDEN / "shapes.py"))
    found: dict[str, dict[str, str]] = recorder["record"](server.path)
    return found


def test_fields_and_types(shapes: dict[str, dict[str, str]]) -> None:
    """Each field that dockerd has is there, and of the same type."""
    differences = []
    for operation, fields in PEER.items():
        ours = shapes[operation]
        for path, kind in fields.items():
            if path not in ours:
                name = f"{operation} {path}"
                if not any(fnmatch.fnmatchcase(name, _literal(pattern)) for pattern in ABSENT):
                    differences.append(f"{name} is missing")
            elif ours[path] != kind and not {ours[path], kind} <= EMPTY:
                differences.append(f"{operation} {path} is {ours[path]}, not {kind}")
    assert differences == []


def _literal(pattern: str) -> str:
    # Of fnmatch's signs only the star is meant: paths have brackets of their own.
    return pattern.replace("[", "[[]")
