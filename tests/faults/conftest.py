"""What all fault tests share: figures to be told."""

import pytest

from tests.faults.harness.figures import Figures


@pytest.fixture
def figures(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Figures:
    return Figures(request.node.nodeid, capsys)
