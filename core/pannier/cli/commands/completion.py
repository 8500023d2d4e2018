"""``pannier completion``."""

from __future__ import annotations

from pannier.cli.command import Command, UsageError, arg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["COMPLETION"]


def _completion(ctx: Context, values: Values) -> int:
    from click.shell_completion import get_completion_class

    from pannier.cli.clickapp import make_app

    shell = values.args[0]
    kind = get_completion_class(shell)
    if kind is None or shell not in ("bash", "zsh", "fish"):
        raise UsageError(f"no completion for {shell!r}", code=1, hint="one of bash, zsh, fish")
    script = kind(make_app(), {}, "pannier", "_PANNIER_COMPLETE")
    # Not script.source(): that starts a shell to check its version, which the reader of a
    # packaged script may not even have.
    ctx.out((script.source_template % script.source_vars()).strip())
    return 0


COMPLETION = Command(
    "completion",
    "Print the completion script for a shell",
    _completion,
    args=[arg("bash|zsh|fish")],
    example='eval "$(pannier completion bash)"',
)
