"""``pannier matrix``: a test command on several kernels, and one table of what came of it."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pannier.matrix.cells import Cell

__all__ = ["matrix"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--kernels",
    default="host,6.1,6.12",
    show_default=True,
    metavar="LIST",
    help="Kernels, each with a layout of control groups if it is not v2: host, 6.1, 6.1:hybrid.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("pannier-matrix"),
    show_default=True,
    help="Folder for JUnit files, consoles and kernel logs.",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1, max=604800),
    default=3600,
    show_default=True,
    help="Seconds for each kernel.",
)
@click.option("--format", "form", metavar="FORMAT", help='"json" prints one object a kernel.')
@click.argument("command", nargs=-1, required=True)
def matrix(
    kernels: str, output: Path, timeout: int, form: str | None, command: tuple[str, ...]
) -> None:
    """Run a test command on this host and on other kernels, in virtual machines.

    Each guest runs over this machine's files, in this folder, with a Debian kernel that is
    downloaded once. The table has a row for each driver that the tests name, a column for each
    kernel; the exit status is 1 where the command failed on one of them, or a machine went down.
    With --format json, what the command prints goes to the standard error.

    \b
    Example:
      pannier matrix --kernels 6.1,6.12 -- pytest tests
      pannier matrix --kernels host,6.1:hybrid -- pytest -k conformance
    """
    from pannier.matrix.cells import run_cell
    from pannier.matrix.table import as_json, render

    if form not in (None, "json", "{{json .}}"):
        raise click.UsageError('--format takes "json"')
    outcomes = []
    with _ended_by_signals():
        for cell in _cells(kernels):
            click.echo(f"== {cell.name}: {' '.join(command)}", err=True)
            folder = (output / cell.name.replace(" ", "-")).absolute()
            outcomes.append(run_cell(cell, command, folder, timeout, printing=2 if form else 1))
    if form:
        for row in as_json(outcomes):
            click.echo(json.dumps(row))
    else:
        click.echo(render(outcomes), nl=False)
    if not all(outcome.good for outcome in outcomes):
        sys.exit(1)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have what asks this process to end unwind it, so that a machine goes down with it."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    heeded = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    ]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cells(kernels: str) -> list[Cell]:
    from pannier.matrix.cells import parse_cell
    from pannier.matrix.kernels import HOST, KERNELS

    cells = []
    for text in filter(None, kernels.split(",")):
        try:
            cell = parse_cell(text.strip())
        except ValueError:
            raise click.UsageError(
                f"{text}: control groups are laid out as v1, v2 or hybrid"
            ) from None
        if cell.kernel not in (HOST, *KERNELS):
            known = ", ".join((HOST, *KERNELS))
            raise click.UsageError(f"there is no kernel {cell.kernel!r}; there are {known}")
        cells.append(cell)
    if not cells:
        raise click.UsageError("--kernels names none")
    return cells
