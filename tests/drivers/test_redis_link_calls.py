"""Calls of scripts on one server: what is sent again, what is not, and what the caller is told."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis

from tests.drivers.redis_link_support import (
    COUNT,
    COUNT_REPEATABLE,
    SLOW,
    Proxy,
    linked,
    own_keys,
)
from tests.support.servers.redis import RedisServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.drivers.redis.link.interface import Call, Script, ScriptDefect

MORE_THAN_A_SOCKET_TAKES = bytes(48 << 20)


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as running:
        yield running


async def test_every_call_gets_its_own_answer(server: RedisServer) -> None:
    echo = Script("echo", "return {ARGV[1], #ARGV[2]}", write=False)
    async with linked(own_keys(server.url)) as here:
        sizes = [0, 1, 100, 200_000]
        calls = [Call(echo, 0, [n, b"x" * sizes[n % 4]]) for n in range(400)]
        answers = await here.link.run_all(calls)
    assert answers == [[b"%d" % n, sizes[n % 4]] for n in range(400)]


async def test_time_is_that_of_the_server_in_microseconds(server: RedisServer) -> None:
    async with linked(server.url) as here:
        before = time.time()
        assert before - 1 < await here.link.time() / 1e6 < time.time() + 1


async def test_a_script_that_the_server_forgot_runs_all_the_same(server: RedisServer) -> None:
    async with linked(own_keys(server.url)) as here:
        assert await here.count() == 1
        server.execute("SCRIPT", "FLUSH")
        assert await asyncio.gather(*(here.count() for _ in range(50))) == list(range(2, 52))


async def test_a_cut_answer_does_not_execute_a_change_twice(server: RedisServer) -> None:
    async with Proxy(server.port) as proxy, linked(own_keys(proxy.url)) as here:
        assert await here.count() == 1
        proxy.cut_answers = True
        with pytest.raises(StoreUnavailable, match="whether it was done is not known"):
            await here.count()
        proxy.cut_answers = False
        assert await here.ran() == 2


async def test_what_is_harmless_is_repeated_after_a_cut_answer(server: RedisServer) -> None:
    async with Proxy(server.port) as proxy, linked(own_keys(proxy.url)) as here:
        assert await here.count(COUNT_REPEATABLE) == 1
        proxy.cut_answers = True
        reading, counting = (
            asyncio.create_task(call) for call in (here.ran(), here.count(COUNT_REPEATABLE))
        )
        await _lost_a_connection(proxy)
        proxy.cut_answers = False
        # It ran before the answer was cut, and once more.
        assert await counting == 3
        assert await reading in (1, 2, 3)


async def _lost_a_connection(proxy: Proxy) -> None:
    before = proxy.connections

    async def another() -> bool:
        return proxy.connections > before

    await until(another, "the link connects again")


async def test_lost_connections_are_replaced_without_a_failure(server: RedisServer) -> None:
    async with linked(own_keys(server.url)) as here:
        for number in range(1, 6):
            server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            # Until the end of the connection is seen, a call on it may have been executed.
            await here.link.time()
            assert await here.count() == number


async def test_a_restarted_server_is_found_again() -> None:
    with RedisServer("redis", "appendonly yes") as server:
        async with linked(own_keys(server.url)) as here:
            assert await here.count() == 1
            server.kill()
            with pytest.raises(StoreUnavailable):
                await here.count()
            counting = asyncio.create_task(here.count())
            await asyncio.to_thread(server.start)
            assert await counting == 2
            await here.wait_gap()


async def test_a_server_that_hangs_fails_calls_in_time_and_is_used_again(
    server: RedisServer,
) -> None:
    async with linked(own_keys(server.url, timeout=0.5)) as here:
        assert await here.count() == 1
        server.pause()
        try:
            began = time.monotonic()
            calls = [here.count(), here.ran(), here.count(COUNT_REPEATABLE)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailable) for answer in answers), answers
            assert time.monotonic() - began < 2.5
        finally:
            server.resume()
        await until(lambda: _works(here.ran()), "the server answers again")


async def test_what_was_given_up_before_it_arrived_is_not_brought_later(
    server: RedisServer,
) -> None:
    async with (
        Proxy(server.port) as proxy,
        linked(own_keys(proxy.url, timeout=0.5)) as here,
    ):
        assert await here.count() == 1
        before = proxy.ended
        proxy.flows.clear()
        with pytest.raises(StoreUnavailable, match="whether it was done is not known"):
            await here.link.run(COUNT, 0, [MORE_THAN_A_SOCKET_TAKES])
        proxy.flows.set()
        await until(lambda: _works(here.ran()), "the server answers again")

        async def over() -> bool:
            return proxy.ended > before

        await until(over, "the connection that was given up has ended")
        assert await here.ran() == 1


async def _works(call: "asyncio.Future[int] | object") -> bool:
    try:
        await call  # type: ignore[misc]
    except StoreUnavailable:
        return False
    return True


@asynccontextmanager
async def busy(server: RedisServer) -> AsyncIterator[None]:
    """A script that does not end until the context does."""
    limit = "lua-time-limit"
    server.execute("CONFIG", "SET", limit, 20)
    script = asyncio.create_task(asyncio.to_thread(server.execute, "EVAL", "while true do end", 0))

    async def says_so() -> bool:
        try:
            server.execute("PING")
        except redis.ResponseError as error:
            return "BUSY" in str(error)
        return False

    try:
        await until(says_so, "the server is busy")
        yield
    finally:
        server.execute("SCRIPT", "KILL")
        await asyncio.wait([script])
        assert isinstance(script.exception(), redis.ResponseError)
        server.execute("CONFIG", "SET", limit, 5000)


async def test_a_busy_server_is_waited_for(server: RedisServer) -> None:
    async with linked(own_keys(server.url)) as here:
        assert await here.count() == 1
        async with busy(server):
            counting = asyncio.create_task(here.count())
            await asyncio.wait([counting], timeout=0.1)
            assert not counting.done()
        assert await counting == 2


async def test_a_server_busy_for_too_long_is_said_to_be(server: RedisServer) -> None:
    async with linked(own_keys(server.url, timeout=0.5)) as here:
        assert await here.count() == 1
        async with busy(server):
            with pytest.raises(StoreUnavailable, match="BUSY"):
                await here.count()
        assert await here.ran() == 1


async def test_a_full_server_refuses_growth_and_lets_work_go_on(server: RedisServer) -> None:
    shrink = Script(
        "shrink",
        "redis.call('DEL', KEYS[2]) return redis.call('SET', KEYS[1] .. 'ran', '-')",
        write=True,
    )
    url = own_keys(server.url)
    async with linked(url) as here:
        assert await here.count() == 1
        server.execute("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(StoreFull, match="maxmemory") as full:
                await here.count()
            assert full.value.subject == "memory"
            assert await here.ran() == 1
            assert await here.link.run(shrink, 0) == b"OK"
            # One that starts now can use the store too.
            async with linked(
                own_keys(server.url, prefix=here.link.channel.split(b":")[0].decode())
            ):
                pass
        finally:
            server.execute("CONFIG", "SET", "maxmemory", 0)


async def test_a_server_that_cannot_write_its_disk_is_unavailable() -> None:
    with RedisServer("valkey", "save 3600 1", "dbfilename snapshot") as server:
        async with linked(own_keys(server.url)) as here:
            await here.count()
            # A snapshot cannot take the place of a folder.
            (server.folder / "snapshot").mkdir()
            server.execute("BGSAVE")

            async def failed() -> bool:
                return bool(server.info("persistence")["rdb_last_bgsave_status"] == "err")

            await until(failed, "the snapshot fails")
            with pytest.raises(StoreUnavailable, match="MISCONF"):
                await here.count()
            assert await here.ran() == 1


async def test_a_demoted_server_takes_no_change_until_it_is_master_again(
    server: RedisServer,
) -> None:
    async with linked(own_keys(server.url, timeout=3)) as here:
        assert await here.count() == 1
        server.execute("REPLICAOF", "127.0.0.1", 1)
        try:
            with pytest.raises(StoreUnavailable, match="replica"):
                await here.count()
        finally:
            server.execute("REPLICAOF", "NO", "ONE")
        assert await here.count() == 2


async def test_a_master_without_its_replicas_takes_no_change(server: RedisServer) -> None:
    async with linked(own_keys(server.url, timeout=0.3)) as here:
        assert await here.count() == 1
        server.execute("CONFIG", "SET", "min-replicas-to-write", 1)
        try:
            with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
                await here.count()
        finally:
            server.execute("CONFIG", "SET", "min-replicas-to-write", 0)
        assert await here.count() == 2


async def test_a_failing_script_is_a_defect_that_names_it(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Script("settle", "return redis.call('INCR', KEYS[1] .. 'x', ARGV[1])", write=True)
    async with linked(own_keys(server.url)) as here:
        with caplog.at_level(logging.ERROR), pytest.raises(ScriptDefect, match="script settle"):
            await here.link.run(broken, 0, ["a payload"])
        assert "script settle failed" in caplog.text
        assert "a payload" not in caplog.text
        assert await here.count() == 1


async def test_one_failure_among_several_calls_is_raised_when_all_have_ended(
    server: RedisServer,
) -> None:
    broken = Script("broken", "return redis.call('NOSUCH')", write=True)
    async with linked(own_keys(server.url)) as here:
        with pytest.raises(ScriptDefect):
            await here.link.run_all([Call(broken, 0), Call(SLOW, 0, [100])])
        assert await here.ran() == 1


async def test_closing_waits_for_what_is_under_way(server: RedisServer) -> None:
    async with linked(own_keys(server.url)) as here:
        slow = asyncio.create_task(here.link.run(SLOW, 0, [200]))
        await asyncio.sleep(0.05)
        await here.link.close()
        await here.link.close()
        assert await slow == 1
        with pytest.raises(StoreUnavailable):
            await here.link.run(COUNT, 0)
