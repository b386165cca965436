"""What can be set of the HTTP server: where figures and probes are answered."""

from typing import Annotated

from pydantic import AfterValidator, Field

from towline_broker.domain.time import MINUTE, SECOND, Micros
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.marks import Expected, Section
from towline_broker.server.configuration.quantities import Duration

OFF = "off"


def _address(text: str) -> str:
    if text.strip().lower() in ("", OFF):
        return OFF
    Address.parse(text)
    return text.strip()


class HttpSettings(Section):
    """Figures for Prometheus, and probes; nothing there changes anything."""

    listen: Annotated[str, AfterValidator(_address), Expected("HOST:PORT or off")] = (
        "127.0.0.1:7481"
    )
    """Where HTTP is served; port 0 is any free one. If the default is taken, the broker goes
    without and says so; an address that is set must be free."""
    public: bool = False
    """Serve an address that other machines reach: whoever does reads the names of stores, queues
    and types, and all figures."""
    tls: bool = False
    """Serve HTTPS, with the certificate of tls.cert and tls.key; clients need none."""
    connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Connections that are open at the same time. One more is let in in the place of one that
    waits, at the cost of whoever has most of them."""
    queues: Annotated[int, Field(ge=0, le=100_000)] = 1_000
    """Queues that /metrics names; the others are counted together, as (other)."""
    types: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Types of jobs that /metrics names; the others are counted together, as (other)."""
    max_age: Annotated[Micros, Duration(0, 1 * MINUTE)] = 5 * SECOND
    """How old the figures of a store may be before a scrape asks it again."""

    @property
    def address(self) -> Address | None:
        """None: HTTP is off."""
        return None if self.listen == OFF else Address.parse(self.listen)

    @property
    def chosen(self) -> bool:
        """Whether the address was set by somebody."""
        return "listen" in self.model_fields_set
