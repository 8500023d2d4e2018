"""``--cache-from``: steps taken over from an image that was built elsewhere.

The image's own history says what its steps were. A step is taken over where all before it are the
same, and its ``created_by`` is what the instruction would write: that names a command with its
arguments, or the digest of the files that were copied. It blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.build.state import Committer, State
    from pannier.images.config import RunConfig
    from pannier.images.model import Image

__all__ = ["from_images"]


def from_images(
    committer: Committer,
    names: Sequence[str],
    state: State,
    *,
    config: RunConfig,
    created_by: str,
    key: str,
) -> State | None:
    """Return the state after a step that one of the images has; None if none has it."""
    for name in names:
        try:
            image = committer.held(name)
        except NotFound:
            continue
        if _begins(image, state) and _next(image, state) == created_by:
            return _taken(committer, image, state, config, key)
    return None


def _begins(image: Image, state: State) -> bool:
    history, layers = len(state.history), len(state.diff_ids)
    ours = [(entry.created_by, entry.empty_layer) for entry in state.history]
    theirs = [(entry.created_by, entry.empty_layer) for entry in image.config.history[:history]]
    return (
        len(image.config.history) > history
        and ours == theirs
        and image.config.diff_ids[:layers] == state.diff_ids
    )


def _next(image: Image, state: State) -> str:
    return image.config.history[len(state.history)].created_by


def _taken(
    committer: Committer, image: Image, state: State, config: RunConfig, key: str
) -> State | None:
    step = image.config.history[len(state.history)]
    layer = None
    if not step.empty_layer:
        if len(image.layers) <= len(state.layers):
            return None
        layer = image.layers[len(state.layers)].blob
    return committer.take_over(state, config, step, key, image=image, layer=layer)
