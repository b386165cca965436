"""Towline through its SDK: jobs are dispatched from threads, as most programs do it. They share a
client, and so a connection."""

from bench import messages
from bench.raw import on_towline
from bench.raw.queue import PAYLOAD
from bench.raw.threads import Dispatched, from_threads
from towline import Client

_DATA = {"text": PAYLOAD.decode()}


class Queue(on_towline.Queue):
    """Takes what was dispatched."""


def dispatch(address: str, setting: str, callers: int, seconds: float) -> Dispatched:
    """From so many threads, each waiting for its answers."""
    with Client(address) as client:

        def call() -> None:
            client.dispatch("Bench", _DATA, queue=messages.QUEUE)

        return from_threads([call] * callers, seconds)
