"""``pannier create``."""

from __future__ import annotations

from pannier.cli.command import Command, arg
from pannier.cli.createbody import create_body
from pannier.cli.creating import create_container
from pannier.cli.runflags import CREATE_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["CREATE"]


def _create(ctx: Context, values: Values) -> int:
    ctx.out(create_container(ctx, values, create_body(values)))
    return 0


CREATE = Command(
    "create",
    "Create a new container",
    _create,
    flags=CREATE_FLAGS,
    args=[arg("IMAGE", least=0, complete="image"), arg("[COMMAND] [ARG...]", least=0, most=None)],
    example="pannier create --name web -p 8080:80 busybox httpd -f",
    rest=True,
)
