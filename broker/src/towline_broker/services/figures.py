"""The figures of the core as messages."""

from operator import attrgetter

from towline.v1 import admin_service_pb2 as pb
from towline_broker.core.calls import Figures, Report, Timing
from towline_broker.domain.jobs import TOTALS, Depth
from towline_broker.domain.pieces import pieces
from towline_broker.services.enums import DURABILITIES
from towline_broker.services.times import to_duration, to_timestamp

_TOTALS = attrgetter(*TOTALS)


async def to_stats(report: Report, version: str) -> pb.StatsResponse:
    stats = _about_broker(report, version)
    async for piece in pieces(report.queues):
        stats.queues.extend(
            pb.QueueFigures(queue=view.name, paused=view.paused, figures=to_figures(view.figures))
            for view in piece
        )
    async for types in pieces(report.types):
        stats.types.extend(
            pb.TypeFigures(type=name, figures=to_figures(figures))
            for name, figures in types
            if name  # a store that does not tell types apart counts depths with none
        )
    return stats


def _about_broker(report: Report, version: str) -> pb.StatsResponse:
    _, capabilities = report.stores[0]
    return pb.StatsResponse(
        total=to_figures(report.total),
        broker=pb.BrokerInfo(
            version=version,
            driver=capabilities.name,
            durability=DURABILITIES[capabilities.durability],
            durability_note=capabilities.durability_note,
            workers=report.workers,
            uptime=to_duration(max(0, report.uptime)),
            started_at=to_timestamp(report.started_at),
            store_time=to_timestamp(report.store_time),
            stores=[
                pb.StoreInfo(
                    name=name,
                    driver=store.name,
                    durability=DURABILITIES[store.durability],
                    durability_note=store.durability_note,
                )
                for name, store in report.stores
            ],
        ),
    )


def to_figures(figures: Figures) -> pb.Figures:
    totals = figures.totals
    message = pb.Figures(
        depth=to_depth(figures.depth),
        totals=pb.Totals(**dict(zip(TOTALS, _TOTALS(totals), strict=True))),
        processing=_timing(figures.processing),
        wait=_timing(figures.wait),
    )
    if figures.oldest_ready is not None:
        message.oldest_ready_age.CopyFrom(to_duration(max(0, figures.oldest_ready)))
    ended = totals.completed + totals.failed
    if ended:
        message.success_rate = totals.completed / ended
        message.failure_rate = totals.failed / ended
    return message


def to_depth(depth: Depth) -> pb.Depth:
    return pb.Depth(
        scheduled=depth.scheduled, ready=depth.ready, leased=depth.leased, dead=depth.dead
    )


def _timing(timing: Timing) -> pb.Timing:
    if not timing.count:
        return pb.Timing()
    return pb.Timing(
        count=timing.count,
        mean=to_duration(timing.mean),
        p50=to_duration(timing.p50),
        p95=to_duration(timing.p95),
        p99=to_duration(timing.p99),
    )
