"""Calls that are measured: a refusal for a moment is counted, and any other one is an error."""

import grpc
import pytest

from bench.parts import calls as part
from bench.parts.calls import Calls, Round, Shape, figures
from towline_broker.core.admission import Admission
from towline_broker.domain.errors import Busy
from towline_broker.server.configuration.settings import CoreOptions, Settings
from towline_broker.server.serving import running_broker


async def test_a_push_that_is_refused_for_a_moment_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enter, refusals = Admission.enter, [Busy(), Busy()]

    def busy(self: Admission, jobs: int) -> float | None:
        if refusals:
            raise refusals.pop()
        return enter(self, jobs)

    monkeypatch.setattr(Admission, "enter", busy)
    monkeypatch.setattr(part, "REFUSED_PAUSE", 0.001)
    settings = Settings(store="memory:", listen="127.0.0.1:0")
    async with (
        running_broker(settings) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        measured = Calls(channel, 2)
        await measured.push()
        assert measured.refused == 2
        await measured.work()


async def test_a_push_that_is_refused_for_good_is_an_error() -> None:
    core = CoreOptions(max_queue_depth=1)
    settings = Settings(store="memory:", listen="127.0.0.1:0", core=core)
    async with (
        running_broker(settings) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="limit of 1"):
            await Calls(channel, 2).push()


def test_a_figure_says_how_many_were_refused() -> None:
    rounds = [Round(1.0, 1.0, 0.0, 0.0, 1_000, 2), Round(1.0, 1.0, 0.0, 0.0, 500, 1)]
    found = {each.what: each.note for each in figures("file", Shape(1, 64), {"broker": rounds})}
    assert found["Push"] == "3 refusals of 1,500 calls, which were made again"
    assert found["Reserve + Ack"] == ""
