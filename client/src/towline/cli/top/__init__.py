"""`towline top`: queues, rates, workers and dead jobs of a broker, live."""

from towline.cli.top.command import register

__all__ = ["register"]
