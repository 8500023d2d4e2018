"""The entry point of ``pannier-runtime``: the command, and how it tells what went wrong."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from pannier.errors import PannierError, UnsupportedOperation
from pannier_oci.arguments import parse
from pannier_oci.commands import run_command
from pannier_oci.handed import check_handed_on
from pannier_oci.messages import set_up

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]

_log = logging.getLogger("pannier_oci")


def main() -> None:
    """Run the command of ``sys.argv``, and exit with its status."""
    sys.exit(_main(sys.argv[1:]))


def _main(words: list[str]) -> int:
    if any(word in {"-v", "--version"} for word in words[:1]):
        return _version()
    found: argparse.Namespace | None = None
    try:
        found = parse(words)
        try:
            check_handed_on(found)  # before the log takes the number of one that is missing
        finally:
            set_up(found.log, found.log_format, debug=found.debug)
        if os.geteuid():
            raise UnsupportedOperation("pannier-runtime is not offered to users: run it as root")
        return run_command(found)
    except PannierError as error:
        return _fail(error, str(error), error.hint, found)
    except OSError as error:
        return _fail(error, str(error), None, found)


def _version() -> int:
    from importlib.metadata import version  # noqa: PLC0415 - for this alone

    from pannier_oci.bundle import VERSIONS  # noqa: PLC0415 - as above

    print(f"pannier-runtime version {version('pannier')}\nspec: {VERSIONS[1]}")  # noqa: T201
    return 0


def _fail(
    error: BaseException, message: str, hint: str | None, found: argparse.Namespace | None
) -> int:
    if found is None:
        set_up(None, "text", debug=False)
    text = f"{message} ({hint})" if hint else message
    _log.error("%s", text, exc_info=error if found is not None and found.debug else None)
    return 1
