"""Brokers that share a store tell each other of jobs: what is said when one hears nothing."""

from towline_broker.domain.outage import Outage


def outage_of_news() -> Outage:
    return Outage("news", "other brokers cannot be heard", "other brokers are heard again")
