"""AppArmor: the profile of the program, and of what is added to its container."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.linux.apparmor import is_enabled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.bundles import Bundle

pytestmark = pytest.mark.root

PROFILE = "pannier-oci-test"
_RULES = f"""
profile {PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  deny /tmp/secret r,
}}
"""


@pytest.fixture
def profile() -> Iterator[str]:
    """Load a profile."""
    parser = shutil.which("apparmor_parser") or shutil.which("apparmor_parser", path="/usr/sbin")
    if not is_enabled() or parser is None:
        pytest.skip("needs a kernel that uses AppArmor, and apparmor_parser (the package apparmor)")
    command = [parser, "--skip-cache", "--replace"]
    subprocess.run(command, input=_RULES, text=True, check=True)
    yield PROFILE
    subprocess.run([parser, "--remove"], input=_RULES, text=True, check=True)


def with_profile(bundle: Bundle, name: str, *args: str) -> Any:
    """Return a configuration with a profile."""
    spec = cast("dict[str, Any]", bundle.spec(*args))
    spec["process"]["apparmorProfile"] = name
    return spec


def test_a_program_is_confined_by_its_profile(bundle: Bundle, profile: str, tmp_path: Path) -> None:
    """From its first instruction; so is what is added, unless it names another profile."""
    (bundle.folder / "rootfs/tmp/secret").write_text("secret")
    script = "cat /proc/self/attr/current /tmp/secret 2>&1; exec sleep 1000"
    output = bundle.create("one", with_profile(bundle, profile, "sh", "-c", script))
    bundle.do("start", "one")
    assert output.line() == f"{profile} (enforce)"
    assert output.line() == "cat: can't open '/tmp/secret': Permission denied"
    assert bundle.do("exec", "one", "cat", "/proc/self/attr/current") == f"{profile} (enforce)\n"
    described: dict[str, Any] = dict(bundle.spec("cat", "/proc/self/attr/current")["process"])
    file = tmp_path / "process.json"
    for name, shown in ((None, f"{profile} (enforce)\n"), ("unconfined", "unconfined\n")):
        file.write_text(json.dumps(described | ({"apparmorProfile": name} if name else {})))
        assert bundle.do("exec", "--process", str(file), "one") == shown


def test_a_profile_that_is_not_loaded_is_an_error(bundle: Bundle, profile: str) -> None:
    """Start says so, and the program does not run."""
    output = bundle.create("one", with_profile(bundle, f"{profile}-other", "echo", "hello"))
    assert "No such file or directory" in bundle.refused("start", "one")
    assert output.read() == ""


def test_without_apparmor_a_profile_is_refused(bundle: Bundle) -> None:
    """By the field's name, with what to leave out; what asks for nothing is taken."""
    if is_enabled():
        pytest.skip("needs a kernel without AppArmor")
    bundle.write(with_profile(bundle, PROFILE, "true"))
    said = bundle.refused("create", "one")
    assert "process.apparmorProfile is not offered" in said
    assert "apparmor=unconfined" in said
    assert bundle.run(with_profile(bundle, "unconfined", "echo", "hello")) == "hello\n"
