"""Figures, queues and workers as JSON; the conventions are those of job_views."""

from __future__ import annotations

from typing import Any

from towline.cli.formats import at, enum_name, iso, length
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as pb


def directive_name(directive: int) -> str:
    return enum_name(pb.WorkerDirective, directive)


def durability_name(durability: int) -> str:
    return enum_name(admin.Durability, durability)


def depth_json(depth: admin.Depth) -> dict[str, int]:
    return {
        "scheduled": depth.scheduled,
        "ready": depth.ready,
        "leased": depth.leased,
        "dead": depth.dead,
    }


def timing_json(timing: admin.Timing) -> dict[str, Any]:
    return {
        "count": timing.count,
        "mean_seconds": length(timing, "mean"),
        "p50_seconds": length(timing, "p50"),
        "p95_seconds": length(timing, "p95"),
        "p99_seconds": length(timing, "p99"),
    }


def figures_json(figures: admin.Figures) -> dict[str, Any]:
    totals = figures.totals
    return {
        "depth": depth_json(figures.depth),
        "oldest_ready_age_seconds": length(figures, "oldest_ready_age"),
        "totals": {
            "pushed": totals.pushed,
            "started": totals.started,
            "completed": totals.completed,
            "failed": totals.failed,
            "retried": totals.retried,
            "released": totals.released,
            "dead_lettered": totals.dead_lettered,
            "lease_expired": totals.lease_expired,
            "cancelled": totals.cancelled,
            "requeued": totals.requeued,
        },
        "success_rate": figures.success_rate if figures.HasField("success_rate") else None,
        "failure_rate": figures.failure_rate if figures.HasField("failure_rate") else None,
        "processing": timing_json(figures.processing),
        "wait": timing_json(figures.wait),
    }


def broker_json(broker: admin.BrokerInfo) -> dict[str, Any]:
    return {
        "version": broker.version,
        "driver": broker.driver,
        "durability": durability_name(broker.durability),
        "durability_note": broker.durability_note,
        "workers": broker.workers,
        "uptime_seconds": length(broker, "uptime"),
        "started_at": iso(at(broker, "started_at")),
        "store_time": iso(at(broker, "store_time")),
        "stores": [
            {
                "name": store.name,
                "driver": store.driver,
                "durability": durability_name(store.durability),
                "durability_note": store.durability_note,
            }
            for store in broker.stores
        ],
    }


def queue_json(queue: admin.QueueInfo) -> dict[str, Any]:
    return {
        "queue": queue.name,
        "paused": queue.paused,
        "depth": depth_json(queue.depth),
        "store": queue.store,
        "moving_to": queue.moving_to or None,
    }


def worker_json(worker: admin.WorkerInfo) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "queues": list(worker.queues),
        "leases": worker.leases,
        "first_seen": iso(at(worker, "first_seen")),
        "last_seen": iso(at(worker, "last_seen")),
        "directive": directive_name(worker.directive),
    }
