"""Whether the driver works here: asked of the installed Pannier, without a daemon."""

from __future__ import annotations

import json

from oci_engine import Engine


def _row(engine: Engine) -> dict[str, object]:
    lines = engine.cli("drivers", "--format", "json").splitlines()
    rows: list[dict[str, object]] = [json.loads(line) for line in lines]
    lowered = [{key.lower(): value for key, value in row.items()} for row in rows]
    (row,) = [row for row in lowered if (row["kind"], row["id"]) == ("runtime", "runc")]
    return row


def test_a_program_that_is_missing() -> None:
    """The driver is a row with the reason and what to do about it; nothing else suffers."""
    engine = Engine(runtime="no-such-runtime")
    try:
        row = _row(engine)
    finally:
        engine.close()
    assert "there is no program 'no-such-runtime'" in str(row)
    assert "[runtime.runc]" in str(row)


def test_a_program_that_is_no_runtime() -> None:
    """It is asked for something that runtimes do, not only looked for."""
    engine = Engine(runtime="false")
    try:
        row = _row(engine)
    finally:
        engine.close()
    assert "returned non-zero exit status 1" in str(row)
