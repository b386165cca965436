"""What the url of an SQS store says."""

import re
from dataclasses import dataclass

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.registry import parse_url

DEFAULT_PREFIX = "towline-"

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
_ENDPOINT = re.compile(r"https?://[^\s/@?#]+/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    #: None: as boto3 finds it (AWS_DEFAULT_REGION, the profile).
    region: str | None = None
    #: None: that of AWS for the region.
    endpoint: str | None = None
    #: The names of this store's SQS queues begin with it.
    prefix: str = DEFAULT_PREFIX
    #: FIFO queues: SQS itself drops a repeated push for five minutes, and delays none.
    fifo: bool = False


def read_options(url: str) -> Options:
    """Raises StoreRefused, naming the part that is wrong."""
    parsed = parse_url(url, options=("region", "endpoint", "prefix", "fifo"))
    if parsed.place.strip("/"):
        raise StoreRefused(
            "the url of an SQS store names no place: write sqs:///?region=eu-west-1; credentials "
            "come from where boto3 finds them (environment, profile, role), never from the url"
        )
    found = parsed.options
    _must_match(_REGION, found.get("region"), "region", "the name of one, such as eu-west-1")
    _must_match(_ENDPOINT, found.get("endpoint"), "endpoint", "http(s)://host:port")
    _must_match(_PREFIX, found.get("prefix"), "prefix", "1 to 40 of A-Z a-z 0-9 - _")
    fifo = found.get("fifo", "false")
    if fifo not in ("true", "false"):
        raise StoreRefused(f"the url of the SQS store: fifo is {fifo!r}; expected true or false")
    return Options(
        found.get("region"),
        found.get("endpoint"),
        found.get("prefix", DEFAULT_PREFIX),
        fifo == "true",
    )


def _must_match(form: "re.Pattern[str]", value: str | None, option: str, expected: str) -> None:
    if value is not None and not form.fullmatch(value):
        raise StoreRefused(f"the url of the SQS store: {option} is not {expected}")
