"""A store in one file: ``towline-broker serve --store shelf:///var/lib/jobs.shelf``."""

from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.registry import parse_url
from towline_shelf.driver import ShelfDriver

__all__ = ["ShelfDriver", "open_shelf"]


def open_shelf(url: str) -> ShelfDriver:
    """Called by the broker with the url of the store. Nothing is opened so far.

    Raises StoreRefused for a url that says anything but ``shelf:///path/of/a/file``.
    """
    place = parse_url(url).place
    if not place.startswith("///") or place.endswith("/"):
        raise StoreRefused(f"{url!r}: write shelf:///path/of/a/file")
    return ShelfDriver(Path(place[2:]))
