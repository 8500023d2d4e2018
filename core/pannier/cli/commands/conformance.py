"""``pannier conformance``: the drivers' test kit, run against a driver that is installed here.

A command about this host, as those of :mod:`pannier.cli.commands.host`. The kit and pytest are
imported only when it runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pannier.cli.context import Context

if TYPE_CHECKING:
    from pannier.testing.runner import Report

__all__ = ["conformance"]

_KINDS = ("storage", "network", "resources", "runtime", "log")
_COULD_NOT_RUN = 2
_INTERRUPTED = 130


def _complete_id(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del parameter
    from pannier.plugins import load_plugins

    kind = context.params.get("kind")
    found = sorted({row.id for row in load_plugins() if row.kind == kind and row.driver})
    return [CompletionItem(id) for id in found if id.startswith(incomplete)]


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "junit"]),
    default="table",
    help="How the report is written.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report to a file, and only its last line here.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Make the driver's folders in here (default: the engine's root).",
)
@click.option(
    "-o",
    "--opt",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set an option of the networks, or the logs, that a driver is tried with"
    " (parent=uplink0).",
)
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("id", shell_complete=_complete_id)
@click.pass_context
def conformance(
    context: click.Context,
    kind: str,
    id: str,
    *,
    form: str,
    output: Path | None,
    folder: Path | None,
    options: tuple[str, ...],
) -> None:
    """Run the conformance kit on an installed driver, on this host and its kernel.

    The driver is opened with its table of the configuration on new folders, which are removed at
    the end; a running daemon and its containers are left alone. Needs root and pytest.

    The exit status is 0 when every test passed or does not apply, 1 when one failed, 2 when the
    kit could not be run, 130 when it was interrupted: the report names the test.

    \b
    Example:
      pannier conformance storage overlay
      pannier conformance network bridge --format junit --output report.xml
      pannier conformance network macvlan -o parent=uplink0
    """
    from pannier.errors import PannierError

    try:
        report = _run(context, kind, id, folder, _pairs(kind, options))
        text = _write(report, form, output)
    except PannierError as error:
        Context(debug=bool(context.find_root().params.get("debug"))).report(error)
        sys.exit(_COULD_NOT_RUN)
    click.echo(text)
    if report.count("interrupted"):
        sys.exit(_INTERRUPTED)
    if report.count("failed"):
        sys.exit(1)


def _pairs(kind: str, given: tuple[str, ...]) -> dict[str, str]:
    from pannier.errors import InvalidRequest

    if given and kind not in {"network", "log"}:
        raise InvalidRequest(
            f"--opt is for network and log drivers, and not for those of the kind {kind}",
            hint="configure the driver in its table of the configuration file",
        )
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidRequest(f"--opt takes KEY=VALUE, not {text!r}")
        found[key] = value
    return found


def _run(
    context: click.Context, kind: str, id: str, folder: Path | None, options: dict[str, str]
) -> Report:
    from importlib.util import find_spec

    from pannier.errors import Forbidden, UnsupportedOperation

    if find_spec("pytest") is None:
        raise UnsupportedOperation(
            "the conformance kit needs pytest, which is not installed",
            hint="pip install 'pannier[testing]'",
        )
    if os.geteuid() != 0:
        raise Forbidden(
            "the conformance kit mounts, and makes namespaces: it needs root",
            hint="run it with sudo, on a machine that you may break",
        )
    from pannier.config import load
    from pannier.plugins import Drivers
    from pannier.testing.runner import run_installed

    root = context.find_root()
    config = load(root.params.get("config") or root.params.get("config_file"))
    return run_installed(
        Drivers(config), kind, id, folder=folder, options=options, progress=_progress
    )


def _progress(done: int, all: int) -> None:
    if sys.stderr.isatty():
        text = "\r\x1b[K" if done == all else f"\r{done} of {all} tests"
        click.echo(text, err=True, nl=False)


def _write(report: Report, form: str, output: Path | None) -> str:
    """Return what is to be printed, after writing the report where it is wanted."""
    from pannier.errors import InvalidRequest
    from pannier.testing.reports import FORMATS, summary

    text = FORMATS[form](report)
    if output is None:
        return text
    try:
        output.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InvalidRequest(
            f"the report cannot be written to {output}: {error.strerror}",
            hint="name another file with --output",
        ) from error
    return f"{report.kind} driver {report.driver}: {summary(report)}; see {output}"
