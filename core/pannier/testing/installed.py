"""The module that pytest collects when the kit is run on an installed driver."""

from __future__ import annotations

from pannier.testing.runner import subject

__all__ = ["TestInstalled"]

TestInstalled = subject()
