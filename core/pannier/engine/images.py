"""Images, for the engine: what the image store knows, off the event loop, with events."""

from __future__ import annotations

__all__ = ["Images"]


class Images:
    """Async wrappers of the image store's methods, with its names (added once it stands)."""
