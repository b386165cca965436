"""The rules of Towline, once for all stores: leases, retries, waiting, upkeep.

Knows neither gRPC nor any store. Everything goes through
:class:`towline_broker.core.broker.Broker`.
"""
