"""RabbitMQ from threads: pika's blocking connections, one for each thread, as pika asks for."""

from collections.abc import Callable
from functools import partial

import pika

from bench.raw import on_rabbitmq
from bench.raw.queue import PAYLOAD
from bench.raw.threads import Dispatched, from_threads


class Queue(on_rabbitmq.Queue):
    """Takes what was dispatched."""


def dispatch(address: str, setting: str, callers: int, seconds: float) -> Dispatched:
    """From so many threads, each waiting for the confirm of each message."""
    host, _, port = address.rpartition(":")
    parameters = pika.ConnectionParameters(host, int(port))
    connections = [pika.BlockingConnection(parameters) for _ in range(callers)]
    queue = on_rabbitmq.name_of(setting)
    try:
        return from_threads([_publishing(connection, queue) for connection in connections], seconds)
    finally:
        for connection in connections:
            connection.close()


def _publishing(connection: pika.BlockingConnection, queue: str) -> Callable[[], object]:
    """Publishes a message; returns when it is confirmed."""
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    return partial(channel.basic_publish, "", queue, PAYLOAD, properties)
