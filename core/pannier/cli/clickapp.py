"""Shows the commands to click, which writes their help and their completions.

Execution goes through the same parser whichever way a command is reached: the click command made
here hands its words on untouched unless help was asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from pannier.cli.command import Command, Flag
from pannier.cli.complete import completer
from pannier.cli.context import Context
from pannier.cli.parse import HelpAsked, parse
from pannier.cli.registry import COMMANDS, GROUPS, load
from pannier.errors import PannierError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LazyGroup", "make_app", "run_click", "to_click"]

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group that imports a command when it is named, and not before."""

    def __init__(self, *args: Any, targets: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name."""
        return sorted({*super().list_commands(ctx), *self.targets})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        target = self.targets.get(cmd_name)
        if target is None:
            return super().get_command(ctx, cmd_name)
        try:
            found: object = load(target)
        except ImportError:
            # One command that cannot be imported must not take the whole help with it.
            return None
        if isinstance(found, Command):
            return to_click(found, cmd_name)
        return found if isinstance(found, click.Command) else None


class _Bridge(click.Command):
    """A declared command as click sees it."""

    def __init__(self, declared: Command, name: str, params: list[click.Parameter]) -> None:
        super().__init__(
            name,
            params=params,
            help=declared.summary,
            short_help=declared.summary,
            epilog=f"\b\nExample:\n  {declared.example}",
            context_settings=_HELP,
        )
        self.declared = declared

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        try:
            ctx.obj = (ctx.obj, parse(self.declared, args))
        except HelpAsked:
            click.echo(ctx.get_help())
            ctx.exit()
        return args

    def invoke(self, ctx: click.Context) -> int:
        context, values = ctx.obj
        return self.declared.run(context, values) or 0

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        del ctx
        return [piece for piece in ("[OPTIONS]", self.declared.usage) if piece]


def to_click(declared: Command, name: str) -> click.Command:
    """Return a declared command as a click command."""
    params: list[click.Parameter] = [_option(one) for one in declared.flags]
    for index, one in enumerate(declared.args):
        params.append(
            click.Argument(
                [f"argument{index}"],
                nargs=-1 if one.most is None else one.most,
                required=False,
                metavar=one.metavar,
                shell_complete=completer(one.complete),
            )
        )
    bridge = _Bridge(declared, name, params)
    bridge.allow_interspersed_args = not declared.rest
    bridge.ignore_unknown_options = declared.rest
    return bridge


def _option(flag: Flag) -> click.Option:
    # click derives a parameter's name from the option; a prefix keeps it off Python's keywords.
    names = [f"--{flag.long}", f"option_{flag.long.replace('-', '_')}"]
    if flag.short:
        names.insert(0, f"-{flag.short}")
    common: dict[str, Any] = {"help": flag.help, "expose_value": False}
    if flag.kind == "bool":
        return click.Option(names, is_flag=True, **common)
    if flag.kind == "optional":
        common.update(is_flag=False, flag_value="")
    return click.Option(
        names,
        multiple=flag.kind == "many",
        metavar=flag.metavar,
        show_default=bool(flag.default),
        default=flag.default or None,
        shell_complete=completer(flag.complete),
        **common,
    )


_EXAMPLES = {"system": "df", "builder": "prune"}


def _group(name: str) -> Callable[[], LazyGroup]:
    summary, targets = GROUPS[name]

    def make() -> LazyGroup:
        return LazyGroup(
            name,
            targets=targets,
            help=summary,
            context_settings=_HELP,
            epilog=f"\b\nExample:\n  pannier {name} {_EXAMPLES.get(name, 'ls')}",
        )

    return make


def make_app() -> LazyGroup:
    """Return the whole command line as a click group.

    Commands of other authors find the global options in ``ctx.obj``, a
    :class:`pannier.cli.context.Context`.
    """

    def start(host: str | None, config: str | None, *, debug: bool, **more: Any) -> None:
        context = Context(host=host, config=config, debug=debug)
        for name, value in more.items():
            setattr(context, name, value)
        click.get_current_context().obj = context

    app = LazyGroup(
        "pannier",
        targets=COMMANDS,
        callback=start,
        params=[
            click.Option(["-H", "--host"], help="Daemon socket to connect to"),
            click.Option(["--config"], metavar="FILE", help="Configuration file"),
            click.Option(
                ["-c", "--context"],
                metavar="NAME",
                help="Docker context to use",
                shell_complete=completer("context"),
            ),
            click.Option(["--tls"], is_flag=True, help="Use TLS; implied by --tlsverify"),
            click.Option(
                ["--tlsverify"], is_flag=True, default=None, help="Use TLS and verify the daemon"
            ),
            click.Option(["--tlscacert"], metavar="FILE", help="Trust what this CA has signed"),
            click.Option(["--tlscert"], metavar="FILE", help="TLS certificate to identify with"),
            click.Option(["--tlskey"], metavar="FILE", help="Its key"),
            click.Option(["-D", "--debug"], is_flag=True, help="Show tracebacks"),
            click.Option(["-v", "--version"], is_flag=True, expose_value=False, help="Version"),
        ],
        help="A container engine in which every mechanism is a driver.",
        epilog="\b\nExample:\n  pannier run --rm --rootfs / echo hello",
        context_settings=_HELP,
    )
    for name in GROUPS:
        app.add_command(_group(name)())
    return app


def run_click(words: Sequence[str]) -> int:
    """Run a command line through click and return its exit status."""
    app = make_app()
    try:
        status = app.main(list(words), prog_name="pannier", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = 0
    except click.ClickException as error:
        sys.stdout.flush()
        sys.stderr.write(f"Error: {error.format_message()}\n")
        status = 125 if isinstance(error, click.UsageError) else error.exit_code
    except click.Abort:
        status = 130
    except PannierError as error:
        Context(debug="--debug" in words or "-D" in words).report(error)
        status = int(getattr(error, "code", 1))
    except (click.exceptions.Exit, SystemExit) as leave:
        code = leave.exit_code if isinstance(leave, click.exceptions.Exit) else leave.code
        status = code if isinstance(code, int) else 1
    return status if isinstance(status, int) else 0
