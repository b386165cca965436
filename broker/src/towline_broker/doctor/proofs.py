"""Certificates and tokens: whether they are good, and for how long."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from towline_broker.doctor.findings import Finding, ok, problem, warning
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.identity.tokens_file import UnreadableTokens, read_entries

#: A certificate that ends sooner is worth a word.
SOON = timedelta(days=14)


def look_at(settings: Settings) -> Iterator[Finding]:
    if settings.tls.enabled:
        yield from _certificates(settings.tls)
    if settings.auth.tokens is not None:
        yield _tokens(settings.auth.tokens)


def _certificates(settings: TlsSettings) -> Iterator[Finding]:
    # What reads certificates takes a while to load.
    from towline_broker.server.certificates import Certificates

    try:
        found = Certificates(settings).ends
    except ConfigError as error:
        yield problem("certificate", str(error), "mend the files that [tls] names")
        return
    remedy = "renew it: a running broker takes the new files by itself"
    yield _certificate("certificate", found["grpc"], "no client that checks it connects", remedy)
    if "client_ca" in found:
        remedy = "put its successor into the file beside it, and take it out when it has run out"
        yield _certificate(
            *("authority for clients", found["client_ca"]),
            *("clients that it vouches for are refused", remedy),
        )


def _certificate(subject: str, ends: datetime, outcome: str, remedy: str) -> Finding:
    rest, day = ends - datetime.now(UTC), f"{ends:%Y-%m-%d}"
    if rest < timedelta(0):
        return problem(subject, f"ran out on {day}: {outcome}", remedy)
    if rest < SOON:
        return warning(subject, f"runs out on {day}", remedy)
    return ok(subject, f"good until {day}")


def _tokens(path: Path) -> Finding:
    try:
        entries = read_entries(path)
    except (UnreadableTokens, OSError) as error:
        return problem("tokens", str(error), "see towline-broker token --help")
    now = datetime.now(UTC)
    good = {entry.name for entry in entries if not entry.has_expired(now)}
    if not good:
        remedy = f"towline-broker token create --name ... --tokens {path}"
        return warning("tokens", f"{path} holds none that is good: nobody can call by one", remedy)
    # An old token beside its successor is how a rotation ends, and no news to anybody. To revoke
    # the name would end the successor, too.
    ended = dict.fromkeys(entry.name for entry in entries if entry.name not in good)
    if ended:
        remedy = "towline-broker token revoke NAME, or create --rotate --name NAME"
        return warning("tokens", f"expired: {', '.join(ended)}", remedy)
    return ok("tokens", f"{len(entries)} in {path}")
