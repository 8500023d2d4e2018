"""Puts what is installed here into a new virtual environment, as a package index would.

Run with the environment's folder: for what an author of a driver types after ``python3 -m venv``.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

__all__ = ["OFFLINE", "furnish"]

OFFLINE = "pip install --no-build-isolation -e "
"""In the place of ``pip install -e``: what builds is here, where an author's pip downloads it."""

_PROGRAMS = {"pannier": "pannier.cli", "pytest": "pytest", "twine": "twine"}


def furnish(environment: Path) -> None:
    """Let all be imported there that is installed here, and be called by its name."""
    [packages] = environment.glob("lib/python3.*/site-packages")
    here = sysconfig.get_path("purelib")
    (packages / "here.pth").write_text(f"import site; site.addsitedir({here!r})", encoding="utf-8")
    programs = environment.absolute() / "bin"
    for name, module in _PROGRAMS.items():
        program = programs / name
        text = f'#!/bin/sh\nexec {programs}/python -m {module} "$@"\n'
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)


if __name__ == "__main__":
    furnish(Path(sys.argv[1]))
