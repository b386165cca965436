"""RabbitMQ from threads: pika's blocking connections, one for each thread, as pika asks for."""

import threading
import time
from collections.abc import Sequence

import pika

from bench.raw import on_rabbitmq
from bench.raw.queue import PAYLOAD


class Queue(on_rabbitmq.Queue):
    """Takes what was dispatched."""


def dispatch(address: str, setting: str, callers: int, seconds: float) -> tuple[int, float]:
    """From so many threads, each waiting for the confirm of each message: how many, in how many
    seconds."""
    host, _, port = address.rpartition(":")
    parameters = pika.ConnectionParameters(host, int(port))
    connections = [pika.BlockingConnection(parameters) for _ in range(callers)]
    try:
        return _publish(connections, on_rabbitmq.name_of(setting), seconds)
    finally:
        for connection in connections:
            connection.close()


def _publish(
    connections: Sequence[pika.BlockingConnection], queue: str, seconds: float
) -> tuple[int, float]:
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    channels = [connection.channel() for connection in connections]
    for channel in channels:
        channel.confirm_delivery()
    jobs = [0] * len(channels)
    began = time.perf_counter()

    def caller(number: int) -> None:
        while time.perf_counter() - began < seconds:
            # Returns when it is confirmed.
            channels[number].basic_publish("", queue, PAYLOAD, properties)
            jobs[number] += 1

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(len(channels))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(jobs), time.perf_counter() - began
