"""An author who did not load the plugin; run by ``test_machinery``."""

from __future__ import annotations

from support.kit_subjects.machinery import Opens


class TestUnplugged(Opens):
    """The kit's class alone."""
