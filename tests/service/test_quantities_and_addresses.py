"""What people write in a configuration is read as they mean it, or refused."""

import pytest

from towline_broker.domain.time import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.quantities import in_units, parse_duration
from towline_broker.server.exits import AddressError


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        (90, 90 * SECOND),
        (0.25, SECOND // 4),
        ("90", 90 * SECOND),
        ("1.5", 1_500 * MILLISECOND),
        ("10m", 10 * MINUTE),
        ("10 min", 10 * MINUTE),
        ("1h30m", 90 * MINUTE),
        (" 1h 30m 5s ", 90 * MINUTE + 5 * SECOND),
        ("500ms", 500 * MILLISECOND),
        ("1.5h", 90 * MINUTE),
        ("7d", 7 * DAY),
        ("0", 0),
    ],
)
def test_a_length_of_time_is_read(text: object, micros: int) -> None:
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    "text", ["", "m", "10 parsecs", "10m!", "h10", "nan", "inf", None, True, [], "1h-5m"]
)
def test_what_is_no_length_of_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        parse_duration(text)


@pytest.mark.parametrize("micros", [0, 5 * MILLISECOND, SECOND, 90 * SECOND, HOUR, 366 * DAY])
def test_a_length_of_time_is_written_so_that_it_can_be_read(micros: int) -> None:
    assert parse_duration(in_units(micros)) == micros


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:7480", "127.0.0.1", 7480, True),
        ("127.1.2.3:1", "127.1.2.3", 1, True),
        ("[::1]:65535", "::1", 65535, True),
        ("localhost:0", "127.0.0.1", 0, True),
        ("0.0.0.0:7480", "0.0.0.0", 7480, False),
        ("[::]:7480", "::", 7480, False),
        ("192.0.2.1:7480", "192.0.2.1", 7480, False),
    ],
)
def test_an_address_is_read_and_known_for_loopback_or_not(
    text: str, host: str, port: int, loopback: bool
) -> None:
    address = Address.parse(text).resolve()
    assert (address.host, address.port, address.is_loopback) == (host, port, loopback)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "7480", ":7480", "localhost", "host:", "host:65536", "host:-1", "host:x", "::1:5"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|brackets"):
        Address.parse(text)


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(AddressError, match=r"no-such-host\.invalid"):
        Address.parse("no-such-host.invalid:1").resolve()
