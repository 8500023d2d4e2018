"""Runs the kit on drivers that were written for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.kit_runs import Run, run_kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Iterable[str]], Run]:
    """Give a function that runs tests of one of the files of subjects."""
    return lambda name, selected: run_kit(tmp_path_factory.mktemp("kit"), name, selected)
