"""Completes names of containers, images, volumes and networks by asking the daemon.

Silent in every failure: a completion that prints an error is worse than none.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from pannier.cli.context import Context
from pannier.client.address import docker_folder
from pannier.client.contexts import DEFAULT, Contexts

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
        if kind == "context":
            known = [*Contexts(docker_folder(os.environ)).names(), DEFAULT]
            return [CompletionItem(one) for one in sorted(known) if one.startswith(incomplete)]
        context = _context(ctx.find_root().params)
        found: list[str] = []
        with contextlib.suppress(Exception):
            client = context.client
            client.disable_start()
            client.timeout = _TIMEOUT
            try:
                if kind == "place":
                    found = [f"{name}:" for name in names(client, "container")]
                else:
                    found = names(client, kind)
            finally:
                client.close()
        fitting = [one for one in sorted(set(found)) if one.startswith(incomplete)]
        if kind == "place" and not fitting:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(one) for one in fitting]

    return complete


def _context(options: dict[str, Any]) -> Context:
    """Return the context of a command line that is being written: it may lead anywhere."""
    context = Context(host=options.get("host"), config=options.get("config"))
    for name in ("context", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey"):
        if options.get(name) is not None:
            setattr(context, name, options[name])
    return context


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
