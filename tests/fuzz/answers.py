"""What a broker may answer to what it cannot do."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import grpc

from towline.v1.errors_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo, Status

#: What a client accepts in headers, all together.
MOST_METADATA = 8_192

PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

#: What a broker may answer on purpose, and the details that have to come with it.
EXPECTED: dict[grpc.StatusCode, tuple[Any, ...]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (ErrorInfo, BadRequest),
    grpc.StatusCode.NOT_FOUND: (ErrorInfo,),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ErrorInfo, QuotaFailure, RetryInfo),
    grpc.StatusCode.UNIMPLEMENTED: (ErrorInfo,),
    grpc.StatusCode.UNAUTHENTICATED: (ErrorInfo,),
    grpc.StatusCode.PERMISSION_DENIED: (ErrorInfo,),
}


class Wrong(AssertionError):
    """The broker answered what it must not answer."""


def check_failure(code: grpc.StatusCode, message: str, metadata: Sequence[tuple[str, Any]]) -> None:
    """Raises Wrong for a failure that no client should get."""
    if code not in EXPECTED:
        raise Wrong(f"{code.name}: {message}")
    status = Status.FromString(dict(metadata)["grpc-status-details-bin"])
    if status.message != message:
        raise Wrong(f"{code.name} says {message!r} and in its details {status.message!r}")
    details = {detail.type_url.rpartition(".")[2]: detail.value for detail in status.details}
    if set(details) != {kind.DESCRIPTOR.name for kind in EXPECTED[code]}:
        raise Wrong(f"{code.name} comes with {sorted(details)}")
    # As HTTP/2 counts them: percent-encoded, in base64, and 32 for each header.
    size = len(quote(message, safe=PLAIN)) + len(metadata[0][1]) * 4 // 3 + 4 * 32
    if size > MOST_METADATA:
        raise Wrong(f"{code.name}: {size} bytes of metadata may be too much for a client")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        violations = BadRequest.FromString(details["BadRequest"]).field_violations
        whole = "are no message" in message or "has far more" in message
        if not violations or (not whole and any(not each.field for each in violations)):
            raise Wrong(f"no field is named: {message}")
