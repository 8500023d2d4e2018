"""Completes names of containers, images, volumes and networks by asking the daemon.

Silent in every failure: a completion that prints an error is worse than none.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from pannier.cli.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from pannier.client import Client

__all__ = ["completer", "names"]

_TIMEOUT = 1.0
_FILES = {"file": "file", "folder": "dir"}


def completer(
    kind: str,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a click completion function for a kind of name."""

    def complete(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del parameter
        if kind in _FILES:
            return [CompletionItem(incomplete, type=_FILES[kind])]
        if not kind:
            return []
        root = ctx.find_root().params
        context = Context(host=root.get("host"), config=root.get("config"))
        found: list[str] = []
        with contextlib.suppress(Exception):
            client = context.client
            client.disable_start()
            client.timeout = _TIMEOUT
            try:
                found = names(client, kind)
            finally:
                client.close()
        return [CompletionItem(one) for one in sorted(set(found)) if one.startswith(incomplete)]

    return complete


def names(client: Client, kind: str) -> list[str]:
    """Return the names of a kind: container, running, image, network, volume or any.

    :raises PannierError: where the daemon does not answer.
    """
    if kind == "any":
        return [
            one
            for each in ("container", "image", "network", "volume")
            for one in names(client, each)
        ]
    if kind in ("container", "running"):
        found = client.get("/containers/json", {"all": kind == "container"})
        return [name.removeprefix("/") for one in found for name in one.get("Names") or ()]
    if kind == "image":
        tags = (tag for one in client.get("/images/json") for tag in one.get("RepoTags") or ())
        return [tag for tag in tags if tag != "<none>:<none>"]
    if kind == "network":
        return [one["Name"] for one in client.get("/networks")]
    if kind == "volume":
        return [one["Name"] for one in client.get("/volumes").get("Volumes") or ()]
    return []
