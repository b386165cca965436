"""What all fault tests share: servers, and figures to be told."""

import pytest

from tests.faults.harness.figures import Figures
from tests.support.servers.fixtures import (
    mariadb_server,
    postgres_server,
    redis_server,
    valkey_server,
)

__all__ = ["figures", "mariadb_server", "postgres_server", "redis_server", "valkey_server"]


@pytest.fixture
def figures(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Figures:
    return Figures(request.node.nodeid, capsys)
