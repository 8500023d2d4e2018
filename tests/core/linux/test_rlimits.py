"""Limits that are set in two steps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pannier.linux.rlimits import raise_rlimit

_RAISE = """
import resource, sys
from pannier.linux.rlimits import raise_rlimit
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
raise_rlimit("RLIMIT_NOFILE", int(sys.argv[1]), int(sys.argv[2]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "left"), [(10, 20, "50 60"), (10, 60, "50 60"), (55, 60, "55 60")]
)
def test_a_limit_is_raised_and_not_lowered(soft: int, hard: int, left: str) -> None:
    """Each of the two values by itself."""
    done = subprocess.run(
        [sys.executable, "-c", _RAISE, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == left


def test_a_soft_limit_above_the_hard_one_is_an_error() -> None:
    """At once, and not only when the rest is set."""
    with pytest.raises(ValueError, match="exceeds maximum"):
        raise_rlimit("RLIMIT_NOFILE", 2, 1)
