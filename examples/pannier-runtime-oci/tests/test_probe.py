"""Whether the driver works here: asked of the installed Pannier, without a daemon."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from oci_engine import Engine

if TYPE_CHECKING:
    from pathlib import Path


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
    assert "false: --version ended with status 1: no message" in str(row)


@pytest.mark.usefixtures("runc")
def test_a_runtime_that_makes_no_root_for_a_list(tmp_path: Path) -> None:
    """As runc since 1.2: it is usable, and of the folder that it was given nothing stays."""
    script = tmp_path / "runtime"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1 $3" in "--root list")\n'
        '  test -d "$2" || { echo "open $2: no such file or directory" >&2; exit 1; }\n'
        "esac\n"
        f'exec {shutil.which("runc")} "$@"\n'
    )
    script.chmod(0o755)
    engine = Engine(runtime=str(script))
    try:
        row = _row(engine)
        left = list((engine.folder / "state/runtime/runc").iterdir())
    finally:
        engine.close()
    assert row["usable"], row
    assert left == []


def test_the_words_of_a_runtime_that_fails(tmp_path: Path) -> None:
    """The reason has the last line that the runtime printed: nobody else knows it."""
    script = tmp_path / "runtime"
    script.write_text("#!/bin/sh\necho warning >&2\necho out of luck >&2\nexit 3\n")
    script.chmod(0o755)
    engine = Engine(runtime=str(script))
    try:
        row = _row(engine)
    finally:
        engine.close()
    assert row["reason"] == f"{script}: --version ended with status 3: out of luck"
