"""The SDK is light to import, and a client works on in a process that was forked off."""

import subprocess
import sys

from tests.sdk.scripted_broker import ScriptedBroker


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_defining_jobs_loads_neither_grpc_nor_the_messages() -> None:
    loaded = run(
        "import sys, towline\n"
        "class Mail(towline.Job):\n  to: str\n"
        "@towline.job\ndef f(a: int): ...\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'google')])"
    )
    assert loaded == "[]"


def test_every_public_name_can_be_had() -> None:
    run("import towline\nfor name in towline.__all__: getattr(towline, name)\nassert dir(towline)")
    run("from towline import *\nClient, AsyncClient, Worker, Job, job")


EVENT_LOOPS = """
import asyncio, sys
from towline import AsyncClient

client = AsyncClient(sys.argv[1])

async def dispatch(type):
    await client.dispatch(type)

asyncio.run(dispatch("first"))
asyncio.run(dispatch("second"))
asyncio.run(client.close())
"""


def test_an_async_client_works_in_one_event_loop_after_another(broker: ScriptedBroker) -> None:
    run(EVENT_LOOPS, broker.address)
    assert [request.jobs[0].type for request in broker.called("Push")] == ["first", "second"]


FORKING = """
import os, sys
from towline import Client

client = Client(sys.argv[1])
if sys.argv[2] == "used before":
    client.dispatch("parent")
child = os.fork()
if child == 0:
    try:
        client.dispatch("child", call_timeout=20)
        client.close()
    except BaseException as error:
        print(f"child: {error!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
client.dispatch("parent-again")
client.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_client_made_before_a_fork_works_in_both_processes(broker: ScriptedBroker) -> None:
    run(FORKING, broker.address, "not used before")
    types = [request.jobs[0].type for request in broker.called("Push")]
    assert types == ["child", "parent-again"]


def test_a_client_used_before_a_fork_works_in_both_processes(broker: ScriptedBroker) -> None:
    run(FORKING, broker.address, "used before")
    types = [request.jobs[0].type for request in broker.called("Push")]
    assert types == ["parent", "child", "parent-again"]


FORKING_WITH_THREADS = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from towline import Client

client = Client(sys.argv[1])

def dispatch_together(type):
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(client.dispatch, type, call_timeout=20) for _ in range(40)]
        return [future.result() for future in futures]

for turn in range(3):
    dispatch_together("parent")
    child = os.fork()
    if child == 0:
        try:
            dispatch_together("child")
            client.close()
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(1)
dispatch_together("parent")
client.close()
"""


def test_pushes_are_joined_before_a_fork_and_after_it(broker: ScriptedBroker) -> None:
    run(FORKING_WITH_THREADS, broker.address)
    types = [info.job.type for info in broker.jobs.values()]
    assert (types.count("parent"), types.count("child")) == (160, 120)
    assert any(len(request.jobs) > 1 for request in broker.called("Push"))


FORKING_ASYNCIO = """
import asyncio, os, sys
from towline import AsyncClient, Client, ConfigurationError

async def dispatch(client, type):
    await asyncio.gather(*(client.dispatch(type) for _ in range(10)))

async def dispatch_and_close(type):
    async with AsyncClient(sys.argv[1]) as client:
        await dispatch(client, type)

def in_a_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(1)

asyncio.run(dispatch_and_close("parent"))
in_a_child(lambda: asyncio.run(dispatch_and_close("child")))

left_open = AsyncClient(sys.argv[1])
asyncio.run(dispatch(left_open, "parent"))

def told():
    for client in (left_open, AsyncClient(sys.argv[1])):
        try:
            asyncio.run(dispatch(client, "child"))
        except ConfigurationError as error:
            assert "close it before the fork, or use Client" in str(error)
        else:
            raise AssertionError("it was not told")
    with Client(sys.argv[1]) as client:
        client.dispatch("child")

in_a_child(told)
asyncio.run(dispatch(left_open, "parent"))
"""


def test_an_async_client_that_is_open_at_a_fork_is_told_of_in_the_child(
    broker: ScriptedBroker,
) -> None:
    run(FORKING_ASYNCIO, broker.address)
    types = [info.job.type for info in broker.jobs.values()]
    assert (types.count("parent"), types.count("child")) == (30, 11)
