"""Why no connection came about although somebody answers, in words that name what to set.

gRPC tells it in the details of the failed call, in its own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.errors import BrokerUnavailable, CallFailed, HandshakeFailed

if TYPE_CHECKING:
    from towline.channel import Connection

_NO_CONNECTION = ("connections to all backends failing", "failed to connect to all addresses")
_HUNG_UP = ("Socket closed", "onnection reset by peer", "Broken pipe")


def explained(error: CallFailed, connection: Connection) -> CallFailed:
    """Return an error that says more, if there is more to say."""
    if not isinstance(error, BrokerUnavailable) or error.reason:
        return error
    told = str(error)
    why = _why_no_handshake(told, connection.target)
    if why is not None:
        return HandshakeFailed(why)
    why = why_hung_up(told, connection)
    return error if why is None else BrokerUnavailable(f"{told}; {why}")


def _why_no_handshake(told: str, target: str) -> str | None:
    if "certificate has expired" in told:
        return (
            f"the certificate of the broker at {target} has run out (or the clock of this machine "
            "is wrong): renew it there"
        )
    # The latter is said of an authority that was made anew under the same name.
    if "CERTIFICATE_VERIFY_FAILED" in told or "certificate signature failure" in told:
        return (
            f"the certificate of the broker at {target} is not vouched for by an authority that is "
            "trusted here: name the file of its authority's certificate in TOWLINE_CA, or in "
            "TlsCredentials.from_files(ca=...)"
        )
    if "Hostname Verification Check failed" in told or "not in peer certificate" in told:
        return (
            f"the certificate of the broker at {target} is for another name: use a name that it "
            "holds in the address, or say which one it has by TOWLINE_SERVER_NAME, or the "
            "server_name of TlsCredentials"
        )
    if "WRONG_VERSION_NUMBER" in told:
        return (
            f"who answers at {target} does not speak TLS: if that is meant, write "
            f"{_with_scheme('grpc', target)}; else set up TLS at the broker (tls.cert, tls.key)"
        )
    if "andshake failed" in told:
        return f"no TLS connection to {target} came about: {told}"
    return None


def why_hung_up(told: str, connection: Connection) -> str | None:
    """Return what may be wrong if no connection came about because the other side did not want it.

    A guess: so does a balancer that has no broker to offer at this moment.
    """
    if not any(each in told for each in _NO_CONNECTION):
        return None
    if not any(each in told for each in _HUNG_UP):
        return None
    if connection.credentials is None:
        there = _with_scheme("grpcs", connection.target)
        return f"somebody is there, and hangs up at once: if it speaks TLS, write {there}"
    if connection.shows_certificate:
        return (
            "it hangs up when it has seen the certificate of this client (TOWLINE_CERT): an "
            "authority that the broker trusts (its tls.client_ca) has to have issued it"
        )
    return (
        "it hangs up in the handshake: if it asks clients for certificates, name yours in "
        "TOWLINE_CERT and TOWLINE_KEY"
    )


def _with_scheme(scheme: str, target: str) -> str:
    return f"{scheme}://{target.removeprefix('dns:///')}"
