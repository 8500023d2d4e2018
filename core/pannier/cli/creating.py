"""Creates a container, fetching its image where that is asked for."""

from __future__ import annotations

import os

from pannier.cli.command import UsageError
from pannier.client import APIError
from pannier.client.api import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["container_path", "create_container"]

_PULLS = ("always", "missing", "never")


def container_path(name: str) -> str:
    """Return a container's path in the API; a name cannot lead out of it."""
    return f"/containers/{quote(name)}"


def create_container(ctx: Context, values: Values, body: dict[str, Any]) -> str:
    """Create a container and return its id; warnings go to stderr.

    :raises APIError: where the daemon refuses.
    """
    pull = values.text("pull")
    if pull not in _PULLS:
        raise UsageError(
            f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"'
        )
    cidfile = _reserve(values.text("cidfile"))
    query = {"name": values.text("name") or None, "platform": values.text("platform") or None}
    try:
        identifier = _create(ctx, values, body, query, pull)
    except BaseException:
        if cidfile:
            os.unlink(cidfile)  # noqa: PTH108 - pathlib costs 5 ms of every start
        raise
    if cidfile:
        with open(cidfile, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
            file.write(identifier)
    return identifier


def _create(
    ctx: Context, values: Values, body: dict[str, Any], query: dict[str, Any], pull: str
) -> str:
    image = body["Image"]
    if pull == "always" and image:
        _pull(ctx, values, image)
    try:
        answer = ctx.client.post("/containers/create", query, body)
    except APIError as error:
        missing = error.code == 404 and "no such image" in str(error).lower()
        if not missing or pull == "never" or not image:
            raise
        if not values.on("quiet"):
            ctx.err(f"Unable to find image '{_tagged(image)}' locally")
        _pull(ctx, values, image)
        answer = ctx.client.post("/containers/create", query, body)
    ctx.warn(answer.get("Warnings"))
    return str(answer["Id"])


def _tagged(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _pull(ctx: Context, values: Values, image: str) -> None:
    from pannier.cli.progress import pull_image

    pull_image(ctx, image, values.text("platform"), quiet=values.on("quiet"), out=2)


def _reserve(path: str) -> str:
    """Claim the file for the id, so that a second container is not created for the same one."""
    if not path:
        return ""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as error:
        raise UsageError(f"failed to create the container ID file: {error}") from error
    os.close(descriptor)
    return path
