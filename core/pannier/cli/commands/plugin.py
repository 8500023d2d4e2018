"""``pannier plugin``: what authors of drivers need at the command line."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["new"]

_KINDS = ("storage", "network", "resources", "runtime", "log")


@click.command()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="Make the distribution's folder in here (default: the current one).",
)
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("name")
@click.pass_context
def new(context: click.Context, kind: str, name: str, folder: Path) -> None:
    """Write a whole, working distribution to begin a driver with.

    NAME is the driver's id. The distribution is called after the kind and the name, has an entry
    point, a README and tests, and passes the conformance kit as it is; its comments say what to do
    next. Nothing that is there is overwritten.

    \b
    Example:
      pannier plugin new network hermit
      pip install -e 'pannier-net-hermit[testing]'
    """
    import sys

    from pannier.cli.context import Context
    from pannier.errors import PannierError
    from pannier.newplugin import new_plugin
    from pannier.plugins import load_plugins

    try:
        installed = {row.id for row in load_plugins(kind=kind) if row.kind == kind and row.driver}
        made = new_plugin(kind, name, folder, installed=installed)
    except PannierError as error:
        Context(debug=bool(context.find_root().params.get("debug"))).report(error)
        sys.exit(1)
    click.echo(made)
