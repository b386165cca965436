from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from towline import AsyncClient
from towline.testing import Harness, InlineWorker

from .jobs import BuildReport
from .main import app, towline_client

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def web(towline: Harness) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as web,
    ):
        yield web


async def test_a_report_is_ordered(web: httpx.AsyncClient, towline: Harness) -> None:
    answer = await web.post("/reports", json={"month": "2026-11"})

    assert answer.status_code == 202
    towline.assert_dispatched(BuildReport, month="2026-11", times=1)
    report = (await web.get(f"/reports/{answer.json()['id']}")).json()
    assert (report["state"], report["result"]) == ("READY", None)


async def test_a_report_is_built(
    web: httpx.AsyncClient, towline: Harness, towline_worker: InlineWorker
) -> None:
    answer = await web.post("/reports", json={"month": "2026-11"})
    await towline_worker.run_all_async()

    report = (await web.get(f"/reports/{answer.json()['id']}")).json()
    assert report["state"] == "SUCCEEDED"
    assert report["result"] == {"month": "2026-11", "pages": 10}
    events = await web.get(f"/reports/{answer.json()['id']}/events")
    assert events.text.startswith("event: ended\ndata: {")


async def test_what_is_no_month_is_refused(web: httpx.AsyncClient, towline: Harness) -> None:
    assert (await web.post("/reports", json={"month": "May"})).status_code == 422
    towline.assert_nothing_dispatched()


async def test_only_reports_are_shown(web: httpx.AsyncClient, towline: Harness) -> None:
    other = towline.client.dispatch("SendInvoice", {"to": "ann@example.com"})

    for job_id in (other.id, uuid4()):
        assert (await web.get(f"/reports/{job_id}")).status_code == 404
        assert (await web.get(f"/reports/{job_id}/events")).status_code == 404


async def test_while_no_broker_is_there_it_says_when_to_come_again(
    web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient("127.0.0.1:1", call_timeout=0.2) as nobody:
        monkeypatch.setitem(app.dependency_overrides, towline_client, lambda: nobody)
        answer = await web.post("/reports", json={"month": "2026-11"})

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
