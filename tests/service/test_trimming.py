"""P11: what a burst has taken up goes back to the machine."""

import asyncio
import logging
import sys

from tests.support.waiting import until
from towline_broker.server.logs import configure_logs
from towline_broker.server.trimming import SLACK, give_memory_back, resident, trim_when_grown

MIB = 1 << 20


async def test_memory_is_trimmed_when_it_has_grown_and_not_before() -> None:
    sizes, trims = [100 * MIB], list[int]()

    def trim() -> None:
        trims.append(sizes[-1])
        sizes.append(150 * MIB)

    task = asyncio.create_task(trim_when_grown(lambda: sizes[-1], trim, 0.001))
    await asyncio.sleep(0.02)
    sizes.append(100 * MIB + SLACK)
    await asyncio.sleep(0.02)
    assert trims == []
    sizes.append(1_000 * MIB)

    async def trimmed() -> bool:
        return bool(trims)

    await until(trimmed, "it is trimmed")
    await asyncio.sleep(0.02)
    assert trims == [1_000 * MIB]
    task.cancel()


async def test_a_process_knows_what_it_has_resident() -> None:
    if not sys.platform.startswith("linux"):
        return
    assert 10 * MIB < resident() < 100_000 * MIB
    task = asyncio.create_task(give_memory_back())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


def test_a_caller_that_is_gone_is_no_error_in_the_log() -> None:
    root, grpc_log = logging.getLogger(), logging.getLogger("grpc._cython.cygrpc")
    handlers, level = root.handlers[:], root.level
    try:
        configure_logs("info", "console")
        lost = type("ExecuteBatchError", (Exception,), {})()
        for error, told in ((lost, False), (ValueError(), True)):
            info = (type(error), error, None)
            record = grpc_log.makeRecord(grpc_log.name, 40, "f", 1, "failed", (), info)
            assert bool(grpc_log.filter(record)) is told
    finally:
        root.handlers[:], root.level = handlers, level
        for each in grpc_log.filters[:]:
            grpc_log.removeFilter(each)
        logging.getLogger("towline").setLevel(logging.NOTSET)
