"""The guide from nothing to a published driver: each of its commands is run, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from trove_classifiers import classifiers

from support import authors

GUIDE = (Path(__file__).parents[2] / "docs" / "writing-a-driver.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)).splitlines()

OFFLINE = {
    "pip install -e '.[testing]'": f"{authors.OFFLINE}'.[testing]'",
    "python -m build": "python -m build --no-isolation",
}

CHANGE = """
from pathlib import Path

path = Path("src/pannier_log_audit/driver.py")
text = path.read_text()
text = text.replace("import DriverUnavailable", "import DriverUnavailable, InvalidRequest")
begin = text.index("@dataclass(frozen=True)")
end = text.index("class AuditLog(")
path.write_text(text[:begin] + {code!r} + "\\n\\n" + text[end:])
"""
"""Changes the driver as an author does with an editor."""


def script_of(change: Path) -> str:
    """Return the guide's commands, with what stands for a package index and for an editor.

    :param change: changes the driver as the guide says.
    """
    lines = []
    for command in COMMANDS:
        lines.append(OFFLINE.get(command, command))
        if "-m venv" in command:
            lines.append(f"python3 {authors.__file__} {command.split()[-1]}")
        if command.startswith("cd "):
            lines.append(f"python {change}")
    return "\n".join(lines)


@pytest.mark.root
def test_every_command_of_the_guide(tmp_path: Path) -> None:
    """From the first to the last, with the driver changed as the guide changes it."""
    assert len(COMMANDS) > 12
    assert set(OFFLINE) <= set(COMMANDS)
    change, config = tmp_path / "change.py", tmp_path / "p.toml"
    [code] = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    change.write_text(CHANGE.format(code=code))
    config.write_text(f'[engine]\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n')
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script_of(change)],
        cwd=tmp_path / "work",
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PANNIER_CONFIG": str(config),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Listed twice, tested three times, and its two files are sound.
    assert done.stdout.count("pannier-log-audit 0.1.0") > 1
    assert len(re.findall(r"\d+ passed", done.stdout)) == 4, done.stdout
    assert done.stdout.count("PASSED") == 2
    driver = tmp_path / "work" / "pannier-log-audit" / "src" / "pannier_log_audit" / "driver.py"
    assert code in driver.read_text()


def test_the_classifiers_are_ones() -> None:
    """As the index has them, which refuses others; of TOML that can be read."""
    [text] = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    assert set(tomllib.loads(text)["classifiers"]) <= classifiers
