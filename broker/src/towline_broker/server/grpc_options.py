"""How the server of gRPC is set up: connections, their pings and their age, calls that come in."""

from towline_broker.domain.time import MILLISECOND, MINUTE, Micros
from towline_broker.server.configuration.settings import Settings
from towline_broker.services.limits import Limits

#: Clients of ours ping a quiet connection every 30 s; a server of gRPC's own taste would hang up.
LEAST_PING_INTERVAL_MS = 20_000
#: A worker whose machine is gone is found out by this, and its parked calls end.
KEEPALIVE_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
#: Calls that have come in and were not looked at yet. From 1,000 on gRPC would begin to refuse them
#: with CANCELLED, which no client repeats; a fleet of workers that reconnects is more than that.
MOST_INCOMING = 10_000
#: Of them and of those under way, from one connection: gRPC's clients keep further ones back. A
#: peer that opens calls and takes them back as fast as it can costs 20 KiB for each.
MOST_OF_A_CONNECTION = 4_096
#: So many bytes of a call come in while nobody reads them: before it is known who calls, and behind
#: its request. Left to itself gRPC takes 4 MiB and more. To a request that is being read it gives
#: room as soon as it knows its length, a way there and back later; smaller ones do not wait for it.
UNREAD_BYTES = 256 * 1024
#: Of the metadata of a call, with all that gRPC adds. Left to itself gRPC refuses some of the calls
#: that have more than half of it, by chance: a large token would be taken now and then.
METADATA_BYTES = 16 * 1024
#: A call on a connection that has reached its age may take so much longer than one may be parked.
CALL_BEYOND_WAIT: Micros = 1 * MINUTE


def grpc_options(settings: Settings, limits: Limits, *, shares_port: bool) -> list[tuple[str, int]]:
    """``shares_port``: other processes serve the same address."""
    incoming = MOST_INCOMING + settings.core.max_waiters
    return [
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.server.max_pending_requests", incoming),
        ("grpc.server.max_pending_requests_hard_limit", incoming),
        ("grpc.max_concurrent_streams", MOST_OF_A_CONNECTION),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", UNREAD_BYTES),
        *_connection_age(settings.max_connection_age, max(limits.wait, settings.max_stream_age)),
    ]


def _connection_age(most: Micros, longest_wait: Micros) -> list[tuple[str, int]]:
    """Clients are told to go (GOAWAY) and take no harm: only what is longer under way than any
    call may be parked, or any stream open, would be broken off."""
    if not most:
        return []
    return [
        ("grpc.max_connection_age_ms", most // MILLISECOND),
        ("grpc.max_connection_age_grace_ms", (longest_wait + CALL_BEYOND_WAIT) // MILLISECOND),
    ]
