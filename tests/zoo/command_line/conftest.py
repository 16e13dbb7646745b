"""Fixtures of these tests."""

import types

import pytest
from requests_made import use


@pytest.fixture
def calls(monkeypatch):
    """Stands in for the modes; collects their requests, with the names of the modes."""
    received = []

    def run(mode, request):
        received.append(types.SimpleNamespace(mode=mode, **vars(request)))

    use(monkeypatch, run)
    return received
