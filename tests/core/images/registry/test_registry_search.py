"""Searches at servers that do not know the distribution API."""

from __future__ import annotations

import os

import pytest

from pannier.images.registry.listing import SearchQuery, search
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.settings import RegistryOptions
from support.registries import search_index_beside
from support.registry import free_port


def test_an_index_that_knows_only_searches() -> None:
    """It is asked by Docker's search API, though it has no ``/v2/``."""
    port = free_port()
    with search_index_beside(os.getpid(), port):
        found = search(RegistryOptions(), SearchQuery(f"127.0.0.1:{port}/found", stars=1))
    assert [(one.name, one.stars) for one in found] == [(f"127.0.0.1:{port}/found", 3)]


def test_a_server_that_cannot_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has neither the search API nor a catalog, which the error says."""
    monkeypatch.setattr("support.registries.SEARCH", "/elsewhere")
    port = free_port()
    with (
        search_index_beside(os.getpid(), port),
        pytest.raises(RegistryError, match="neither a search API nor a catalog"),
    ):
        search(RegistryOptions(), SearchQuery(f"127.0.0.1:{port}/found"))
