"""The parts of docs/observability.md that are made: the table of metrics, and a scrape.

``python -m tests.observability.page`` writes them; a test holds that the page has them as they are.
"""

import asyncio
import re
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from unittest import mock

from google.protobuf.duration_pb2 import Duration

from tests.core.manual_clock import START, ManualClock
from tests.observability.shown import ANY_PORT, Shown, shown_broker
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Failure, Job, RetryPolicy
from towline_broker.domain.time import SECOND, to_seconds
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.metrics import families
from towline_broker.server.metrics.families import Family, Kind, Row, Rows, Scope

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"

#: Seconds that each call takes, as far as the figures know.
CALL = 0.002


def system() -> Iterable[Rows]:
    """As much of a process as one line shows."""
    name, text = "process_cpu_seconds_total", "Total user and system CPU time spent in seconds."
    yield Family(name, Kind.COUNTER, Scope.PROCESS, (), text), [Row((), 1.5)]


async def scrape() -> str:
    """Of a broker that has seen a few jobs, by a clock that a hand moves."""
    http = HttpSettings(listen=ANY_PORT)
    settings = Settings(store="memory:", listen=ANY_PORT, http=http)
    clock, ticks = ManualClock(), count()
    with mock.patch("towline_broker.core.admission.TARGET", float("inf")):
        async with shown_broker(
            settings,
            clock=clock,
            system=system,
            timer=lambda: next(ticks) * CALL,
            since=to_seconds(START),
        ) as shown:
            await work(shown, clock)
            return await shown.scrape()


async def work(shown: Shown, clock: ManualClock) -> None:
    queue = shown.calls.queue
    once = RetryPolicy(max_attempts=1)
    jobs = [Job(queue="emails", type="SendEmail", retry=once) for _ in range(4)]
    await queue.Push(pb.PushRequest(jobs=jobs))
    later = Job(queue="reports", type="BuildReport", delay=Duration(seconds=600))
    await queue.Push(pb.PushRequest(jobs=[later]))
    await clock.advance(2 * SECOND)
    choice = pb.QueueChoice(name="emails")
    request = pb.ReserveRequest(queues=[choice], max_jobs=3, worker_id="web-1")
    first, second, _ = (await queue.Reserve(request)).leases
    await clock.advance(3 * SECOND)
    await queue.Ack(pb.AckRequest(acks=[pb.Ack(lease_token=first.lease_token)]))
    failure = Failure(type="ConnectionRefusedError", message="no mail today")
    nack = pb.Nack(lease_token=second.lease_token, failure=failure)
    await queue.Nack(pb.NackRequest(nacks=[nack]))
    await clock.advance(5 * SECOND)


def table(scope: Scope) -> str:
    """The metrics of a scope, for people."""
    rows = [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{one}`' for one in family.labels)} "
        f"| {family.help} |"
        for family in families.ALL
        if family.scope is scope
    ]
    return "\n".join(["| metric | kind | labels | |", "|---|---|---|---|", *rows])


async def parts() -> dict[str, str]:
    """By the name that stands in the comments around each."""
    return {
        "metrics of a store": table(Scope.STORE),
        "metrics of a process": table(Scope.PROCESS),
        "scrape": f"```text\n{(await scrape()).rstrip()}\n```",
    }


def block(name: str, text: str) -> str:
    """A part as it stands in the page."""
    return f"<!-- {name} -->\n\n{text}\n\n<!-- end -->"


def written(page: str, made: dict[str, str]) -> str:
    for name, text in made.items():
        found = re.search(rf"<!-- {name} -->.*?<!-- end -->", page, re.DOTALL)
        assert found is not None, f"{PAGE.name} has no place for: {name}"
        page = page.replace(found[0], block(name, text))
    return page


def main() -> None:
    made = asyncio.run(parts())
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
