"""Checks answers against an API specification in Swagger 2.0: types, required fields, statuses."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Specification", "specification"]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _fits(kind: str, value: Any) -> bool:
    return isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")


def _check_scalar(schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, not one of {schema['enum']}"
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        yield f"{where} is {value!r}, which does not match {schema['pattern']}"


@dataclass(frozen=True)
class Specification:
    """A parsed specification.

    :param document: the whole, as YAML gives it.
    """

    document: dict[str, Any]

    def operations(self) -> Iterator[tuple[str, str]]:
        """Yield each operation's method and path."""
        for path, methods in self.document["paths"].items():
            for method in methods:
                if method in {"get", "head", "post", "put", "delete"}:
                    yield method.upper(), path

    def statuses(self, method: str, path: str) -> dict[int, Any]:
        """Return the answers of an operation by status."""
        responses = self.document["paths"][path][method.lower()]["responses"]
        return {int(status): response for status, response in responses.items()}

    def faults(self, method: str, path: str, status: int, value: Any) -> list[str]:
        """Return how a JSON answer differs from what is specified; empty where it does not."""
        statuses = self.statuses(method, path)
        if status not in statuses:
            return [f"status {status} is not specified"]
        schema = statuses[status].get("schema")
        return [] if schema is None else list(self._check(schema, value, "$"))

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self.document["definitions"][schema["$ref"].rpartition("/")[2]]
        return schema

    def _check(self, schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
        schema = self._flatten(schema)
        kind = schema.get("type", "object" if "properties" in schema else None)
        if value is None:
            # Go writes null for every empty list and map, and the specification does not say so.
            if not schema.get("x-nullable") and kind not in {"array", "object"}:
                yield f"{where} is null"
        elif kind is not None and not _fits(kind, value):
            yield f"{where} is {value!r}, not of the type {kind}"
        elif kind == "array":
            for number, item in enumerate(value):
                yield from self._check(schema.get("items", {}), item, f"{where}[{number}]")
        elif kind == "object":
            yield from self._check_object(schema, value, where)
        else:
            yield from _check_scalar(schema, value, where)

    def _flatten(self, schema: dict[str, Any]) -> dict[str, Any]:
        schema = self._resolve(schema)
        if "allOf" not in schema:
            return schema
        merged: dict[str, Any] = {key: item for key, item in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            resolved = self._flatten(part)
            for key, item in resolved.items():
                if key == "properties":
                    merged[key] = merged.get(key, {}) | item
                elif key == "required":
                    merged[key] = merged.get(key, []) + item
                else:
                    merged.setdefault(key, item)
        return merged

    def _check_object(
        self, schema: dict[str, Any], value: dict[str, Any], where: str
    ) -> Iterator[str]:
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                yield f"{where}.{name} is missing"
        more = schema.get("additionalProperties")
        for name, item in value.items():
            if name in properties:
                yield from self._check(properties[name], item, f"{where}.{name}")
            elif isinstance(more, dict):
                yield from self._check(more, item, f"{where}.{name}")
            elif properties and not more:
                yield f"{where}.{name} is not specified"


def specification() -> Specification:
    """Return the Docker Engine API's; skips a test where it is not to be found."""
    path = os.environ.get("PANNIER_API_SPEC")
    if not path:
        pytest.skip("set PANNIER_API_SPEC to the path of docker-engine-api-v1.51.yaml")
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install PyYAML")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Specification(yaml.load(Path(path).read_text(), Loader=loader))
