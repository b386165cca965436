"""The pytest plugin of Towline: the fixtures ``towline`` and ``towline_worker``.

Every run of pytest in an environment with towline loads it, so it is a package of its own, and
imports towline when a fixture is used. What the fixtures are stands at towline.testing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from towline.testing import Harness, InlineWorker


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "towline_url",
        "Address for Towline clients that are made without one, also while modules are imported: "
        "sets TOWLINE_URL.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest.py is imported, and with it the modules that make clients."""
    url = early_config.getini("towline_url")
    if url:
        os.environ["TOWLINE_URL"] = url


@pytest.fixture
def towline() -> Iterator[Harness]:
    """A broker in this process, empty for each test, and what a test asks it: see
    towline.testing.Harness. Clients made with the address memory://, or without one, use it."""
    from towline import testing

    with testing.broker() as harness:
        yield harness


@pytest.fixture
def towline_worker_options() -> dict[str, Any]:
    """Options of ``towline_worker``: override it to give middleware, callbacks or a registry."""
    return {}


@pytest.fixture
def towline_worker(towline: Harness, towline_worker_options: dict[str, Any]) -> InlineWorker:
    """A worker that runs the jobs of ``towline`` where its run_all() is called."""
    return towline.worker(**towline_worker_options)
