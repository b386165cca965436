"""Reports are ordered in a request, built by a worker, and watched while they are built."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from towline import (
    AsyncClient,
    BrokerUnavailable,
    DeadlineExceeded,
    JobStatus,
    NotFound,
    ResourceExhausted,
)

from .jobs import BuildReport


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient(call_timeout=5) as client:  # TOWLINE_URL says where the broker is
        app.state.towline = client
        yield


app = FastAPI(lifespan=lifespan)


def towline_client(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.towline
    return client


Towline = Annotated[AsyncClient, Depends(towline_client)]


async def report_job(job_id: UUID, towline: Towline) -> JobStatus:
    """The job that a path names. Ids come from outside: only those of reports are answered."""
    try:
        status = await towline.get(job_id)
    except NotFound:
        raise HTTPException(404, "there is no such report") from None
    if status.type != BuildReport.job_type:
        raise HTTPException(404, "there is no such report")
    return status


ReportJob = Annotated[JobStatus, Depends(report_job)]


class Order(BaseModel):
    month: str = Field(pattern=r"^\d{4}-\d{2}$")


class Report(BaseModel):
    id: str
    state: str
    progress: float = 0.0
    message: str = ""
    result: dict[str, Any] | None = None

    @classmethod
    def of(cls, job: JobStatus) -> "Report":
        report = cls(id=job.id, state=job.state, result=job.result)
        if job.progress is not None:
            report.progress, report.message = job.progress.fraction, job.progress.message
        return report


@app.post("/reports", status_code=202)
async def order_report(order: Order, towline: Towline) -> dict[str, str]:
    handle = await towline.dispatch(BuildReport(month=order.month))
    return {"id": handle.id}


@app.get("/reports/{job_id}")
async def show_report(job: ReportJob) -> Report:
    return Report.of(job)


@app.get("/reports/{job_id}/events", response_class=EventSourceResponse)
async def report_events(job: ReportJob, towline: Towline) -> AsyncIterator[ServerSentEvent]:
    """One event for each change, the last one when it has ended: ``new EventSource(url)``."""
    async for status in towline.watch(job.id, interval=0.2):
        event = "ended" if status.ended else "progress"
        yield ServerSentEvent(event=event, data=Report.of(status))


@app.exception_handler(BrokerUnavailable)
@app.exception_handler(DeadlineExceeded)
@app.exception_handler(ResourceExhausted)
async def broker_is_away_or_full(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "try again soon"}, 503, headers={"Retry-After": "5"})
