"""What there is to tell of a broker that serves, as it travels from process to process."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from towline_broker.drivers.interface import Durability
from towline_broker.server.addresses import Address
from towline_broker.server.exposure import Protection


@dataclass(frozen=True)
class StoreLine:
    """A store as it is shown."""

    name: str
    #: As ``shown_url`` shows it.
    url: str
    durability: Durability
    durability_note: str
    #: Other brokers may use it too; it does not end with this one.
    shared: bool = False


@dataclass(frozen=True)
class Serving:
    """What is told of a broker that serves."""

    version: str
    address: Address
    #: The default one first.
    stores: Sequence[StoreLine]
    protection: Protection

    def to_json(self) -> str:
        """In one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str | bytes) -> "Serving":
        fields = json.loads(text)
        stores = [
            StoreLine(**{**store, "durability": Durability(store["durability"])})
            for store in fields["stores"]
        ]
        address, protection = Address(**fields["address"]), Protection(**fields["protection"])
        return Serving(fields["version"], address, stores, protection)
