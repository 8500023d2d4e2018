"""``pannier daemon``."""

from __future__ import annotations

import os
import sys

from pannier.cli.command import Command, arg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["DAEMON"]


def _daemon(ctx: Context, values: Values) -> int:
    """Become the daemon: the same process, so that a supervisor sees its end."""
    words = [sys.executable, "-m", "pannier.daemon"]
    if ctx.config:
        words += ["--config", ctx.config]
    sys.stdout.flush()
    os.execv(sys.executable, [*words, *values.args])  # noqa: S606 - no shell is wanted


DAEMON = Command(
    "daemon",
    "Run the daemon in the foreground; what follows goes to it",
    _daemon,
    args=[arg("ARGUMENT", least=0, most=None)],
    example="pannier --config /etc/pannier/pannier.toml daemon",
    raw=True,
)
