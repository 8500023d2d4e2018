"""``pannier drivers``, ``doctor`` and ``config``: commands about this host, not about a daemon.

They work where no daemon runs (or can run), so they read the configuration and probe the drivers
themselves. What they need is imported only when they run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pannier.config import Config
    from pannier.plugins import DriverRecord, Drivers

__all__ = ["config", "doctor", "drivers"]

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def _load(context: click.Context) -> Config:
    from pannier.config import load

    root = context.find_root()
    return load(root.params.get("config") or root.params.get("config_file"))


def _row(record: DriverRecord, chosen: set[tuple[str, str]]) -> dict[str, object]:
    return {
        "Kind": record.kind or "?",
        "Id": record.id,
        "Distribution": record.distribution,
        "Version": record.version,
        "Usable": record.usable,
        "Reason": record.reason,
        "Hint": record.hint,
        "Capabilities": list(record.capabilities),
        "Chosen": (record.kind, record.id) in chosen,
    }


def _cells(row: dict[str, object]) -> tuple[str, str, str, str, str, str]:
    offers = row["Capabilities"]
    assert isinstance(offers, list)
    return (
        "*" if row["Chosen"] else "",
        str(row["Kind"]),
        str(row["Id"]),
        f"{row['Distribution']} {row['Version']}".strip(),
        "yes" if row["Usable"] else "no",
        ", ".join(offers) if row["Usable"] else str(row["Reason"]),
    )


def _chosen(drivers: Drivers) -> set[tuple[str, str]]:
    from pannier.config import KINDS
    from pannier.errors import PannierError

    result = set()
    for kind in KINDS:
        try:
            result.add((kind, drivers.choose(kind).id))
        except PannierError:
            continue  # the rows themselves say why none could be chosen
    return result


@click.command()
@click.option("--format", "form", metavar="FORMAT", help='"json" prints one object a line.')
@click.option("--trace", is_flag=True, help="Show each call of a plugin's code, with its time.")
@click.pass_context
def drivers(context: click.Context, form: str | None, trace: bool) -> None:  # noqa: FBT001
    """List every driver found: kind, id, distribution, whether it works here, what it offers.

    The chosen driver of each kind is marked with an asterisk. With --trace: how long the daemon's
    start took to import each plugin, call its hooks, and probe and open its drivers.

    \b
    Example:
      pannier drivers
      pannier drivers --format json
      pannier drivers --trace
    """
    from pannier.plugins import Drivers

    if form not in (None, "json", "{{json .}}"):
        raise click.UsageError('--format takes "json"')
    if trace:
        _show_trace(context, as_json=form is not None)
        return
    found = Drivers(_load(context))
    found.check_tables()
    records = found.probe_all()
    chosen = _chosen(found)
    rows = [_row(record, chosen) for record in records]
    rows.sort(key=lambda row: (str(row["Kind"]), str(row["Id"])))
    if form:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = [("", "KIND", "ID", "DISTRIBUTION", "USABLE", "CAPABILITIES")]
    table.extend(_cells(row) for row in rows)
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line[:5], widths, strict=True)]
        click.echo("  ".join([*cells, line[5]]).rstrip())
    for row in rows:
        if row["Hint"]:
            click.echo(f"hint: {row['Id']}: {row['Hint']}", err=True)


def _show_trace(context: click.Context, *, as_json: bool) -> None:
    from pannier.cli.drivertrace import json_lines, table

    answer = context.find_root().obj.ask_running("/pannier/drivers/trace")
    if answer is None:
        from pannier.plugins import Drivers

        found = Drivers(_load(context))
        found.check_tables()
        found.probe_all()
        calls = [call.row() for call in found.trace.calls]
        click.echo("no daemon runs: loaded and probed here and now, and nothing opened", err=True)
    else:
        calls = answer["Calls"]
    for line in json_lines(calls) if as_json else table(calls):
        click.echo(line)


@click.command()
@click.option("--format", "form", metavar="FORMAT", help='"json" prints one object a line.')
@click.pass_context
def doctor(context: click.Context, form: str | None) -> None:
    """Check this host: namespaces, overlay, control groups, firewall, seccomp, limits, space.

    The exit status is 0 when containers can run, 1 when something that they need is missing.

    \b
    Example:
      pannier doctor
      pannier doctor --format json
    """
    from pannier.doctor import Verdict, examine

    if form not in (None, "json", "{{json .}}"):
        raise click.UsageError('--format takes "json"')
    failed = 0
    for check in examine(_load(context)):
        failed += check.verdict is Verdict.FAIL
        if form:
            row = {"Name": check.name, "Verdict": check.verdict, "Detail": check.detail}
            click.echo(json.dumps({**row, "Hint": check.hint}))
            continue
        click.echo(f"{_MARKS[check.verdict]}  {check.name}: {check.detail}")
        if check.hint and check.verdict is not Verdict.OK:
            click.echo(f"      hint: {check.hint}")
    if failed:
        sys.exit(1)


@click.group()
def config() -> None:
    """Show, write and check the TOML configuration file.

    \b
    Example:
      pannier config show
    """


@config.command()
@click.pass_context
def show(context: click.Context) -> None:
    """Print the configuration in force, defaults included.

    \b
    Example:
      pannier config show
      pannier --config ./pannier.toml config show
    """
    from pannier.config import render

    loaded = _load(context)
    click.echo(f"# {loaded.origin.path or 'built-in defaults; no file was read'}")
    click.echo(render(loaded), nl=False)


@config.command()
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def init(context: click.Context, path: Path | None, force: bool) -> None:  # noqa: FBT001
    """Write a configuration file with every key at its default, each driver's table included.

    PATH defaults to --config, PANNIER_CONFIG or /etc/pannier/pannier.toml.

    \b
    Example:
      pannier config init ./pannier.toml
    """
    from pannier.config import DEFAULT_PATH, VARIABLE, Config, render
    from pannier.errors import Conflict
    from pannier.plugins import load_plugins

    root = context.find_root()
    named = root.params.get("config") or root.params.get("config_file")
    target = path or Path(named or os.environ.get(VARIABLE) or DEFAULT_PATH)
    if target.exists() and not force:
        raise Conflict(f"{target} exists", hint="add --force to replace it")
    tables: dict[str, dict[str, dict[str, object]]] = {}
    for record in load_plugins():
        if record.driver is not None:
            defaults = vars(record.driver.config_type())
            if defaults:
                tables.setdefault(record.kind, {})[record.id] = dict(defaults)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    staged.write_text(render(Config(tables=tables)), encoding="utf-8")
    staged.rename(target)
    click.echo(f"wrote {target}")


@config.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check the configuration file: keys, types, values, and that the drivers named are here.

    \b
    Example:
      pannier --config ./pannier.toml config check
    """
    from pannier.config import KINDS
    from pannier.plugins import Drivers
    from pannier.subids import parse_remap

    loaded = _load(context)
    parse_remap(loaded.engine.userns_remap)
    found = Drivers(loaded)
    found.check_tables()
    for kind in KINDS:
        found.check_installed(kind)
    click.echo(f"{loaded.origin.path or 'the built-in default configuration'}: ok")
