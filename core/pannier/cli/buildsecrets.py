"""``--secret``: what a build's secrets are read from, on the client's side."""

from __future__ import annotations

import csv
import os

from pannier.cli.command import UsageError

__all__ = ["read_secret"]

_MOST = 512_000
_KEYS = ("id", "type", "source", "env")


def read_secret(spec: str) -> tuple[str, bytes]:
    """Return a secret's id and content: of a file, or of a variable of this environment.

    :param spec: ``id=ID[,type=file|env][,src=FILE][,env=VARIABLE]``, with quotes as in CSV.
    :raises UsageError: it is malformed, or what it names cannot be read.
    """
    fields = _fields(spec)
    kind, name = fields.get("type", ""), fields.get("id", "")
    source, variable = fields.get("source", ""), fields.get("env", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret {spec}: unsupported secret type {kind!r}")
    if not name:
        raise UsageError(f"--secret {spec}: id= is missing", hint="write id=token,src=FILE")
    if kind == "env" and source and not variable:
        variable, source = source, ""
    # As Docker does it: a secret without a source is a variable of its name, or else a file.
    if not source and not variable and kind != "file" and (kind == "env" or name in os.environ):
        variable = name
    if variable and kind != "file":
        return name, _from_variable(spec, variable)
    return name, _from_file(spec, source or name)


def _fields(spec: str) -> dict[str, str]:
    try:
        parts = next(csv.reader([spec], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"--secret {spec}: {error}") from None
    fields = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key = "source" if key.lower() == "src" else key.lower()
        if not equals:
            raise UsageError(f"--secret {spec}: invalid field '{part}' must be a key=value pair")
        if key not in _KEYS:
            raise UsageError(f"--secret {spec}: unexpected key '{key}' in '{part}'")
        fields[key] = value
    return fields


def _from_variable(spec: str, variable: str) -> bytes:
    data = os.environb.get(os.fsencode(variable))
    if data is None:
        raise UsageError(f"--secret {spec}: the variable {variable} is not set")
    return data


def _from_file(spec: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is slow
            data = file.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"--secret {spec}: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--secret {spec}: {path!r} is no file's name") from error
    if len(data) > _MOST:
        raise UsageError(f"--secret {spec}: the file has more than {_MOST} bytes")
    return data
